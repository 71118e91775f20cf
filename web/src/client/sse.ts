/** One event of a text/event-stream; id null: it had none. */
export interface Frame {
    id: string | null
    event: string
    data: string
}

/** Reads a text/event-stream in whatever pieces it comes. */
export class SseParser {
    private rest = ''
    private id: string | null = null
    private event = ''
    private data: string[] = []
    private first = true

    push(text: string): Frame[] {
        const frames: Frame[] = []
        let all = this.rest + text
        if (this.first && all.length > 0) {
            all = all.replace(/^\uFEFF/, '')
            this.first = false
        }
        // A line ends with CR LF, LF or CR; a CR at the very end may be half of a CR LF.
        const end = /\r\n|\n|\r/g
        let from = 0
        for (;;) {
            const found = end.exec(all)
            if (!found || (found[0] === '\r' && end.lastIndex === all.length)) break
            this.line(all.slice(from, found.index), frames)
            from = end.lastIndex
        }
        this.rest = all.slice(from)
        return frames
    }

    private line(line: string, frames: Frame[]): void {
        if (line === '') {
            if (this.data.length > 0) frames.push({ id: this.id, event: this.event || 'message', data: this.data.join('\n') })
            this.id = null
            this.event = ''
            this.data = []
            return
        }
        const colon = line.indexOf(':')
        if (colon === 0) return // a comment
        const field = colon < 0 ? line : line.slice(0, colon)
        const value = colon < 0 ? '' : line.slice(colon + 1).replace(/^ /, '')
        if (field === 'data') this.data.push(value)
        else if (field === 'event') this.event = value
        else if (field === 'id' && !value.includes('\0')) this.id = value
    }
}
