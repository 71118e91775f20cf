import { isObject } from './error'
import { SseParser } from './sse'
import { retryAfter } from './wait'

/** One thing that happened to a job, as GET /mux/v1/events tells it; id null: it is not kept. */
export interface Entry {
    id: string | null
    event: string
    data: Record<string, unknown>
}

/** The gateway says something every 15 s; a stream that has been silent for so long is dead. */
const SILENT = 45000

/** Reads events from after `last` on until the stream ends, for whatever reason. Gives the ms that the gateway wants to be left
 *  alone for, if it named any. */
export async function readStream(
    base: string,
    last: string | null,
    signal: AbortSignal,
    on: { open(): void; entry(e: Entry): void },
): Promise<number | null> {
    const stop = new AbortController()
    const pass = () => stop.abort()
    signal.addEventListener('abort', pass)
    let timer = setTimeout(pass, SILENT)
    try {
        if (signal.aborted) return null
        // The id goes into the query: as a header it would cost a page of another origin a preflight.
        const query = last === null ? '' : `?last_event_id=${encodeURIComponent(last)}`
        const answer = await fetch(`${base}mux/v1/events${query}`, {
            headers: { Accept: 'text/event-stream' },
            cache: 'no-store',
            signal: stop.signal,
        })
        if (!answer.ok || !answer.body || !(answer.headers.get('Content-Type') ?? '').startsWith('text/event-stream')) {
            pass()
            return retryAfter(answer.headers.get('Retry-After'))
        }
        on.open()
        const parser = new SseParser()
        const decoder = new TextDecoder()
        const reader = answer.body.getReader()
        for (;;) {
            const { value, done } = await reader.read()
            if (done) return null
            clearTimeout(timer)
            timer = setTimeout(pass, SILENT)
            for (const f of parser.push(decoder.decode(value, { stream: true }))) {
                const data: unknown = JSON.parse(f.data)
                if (isObject(data)) on.entry({ id: f.id, event: f.event, data })
            }
        }
    } catch {
        return null // cut, or never there: the same to the caller, who comes back
    } finally {
        clearTimeout(timer)
        pass()
        signal.removeEventListener('abort', pass)
    }
}
