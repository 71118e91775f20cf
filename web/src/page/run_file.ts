// What a file carries: a workflow as text, or one that ComfyUI has put into a picture. Knows the places, not what stands there.

/** The texts that were found; null where there is none. */
export interface Carried {
    kind: 'text' | 'picture'
    /** The workflow as it was run, or the whole text. */
    prompt: string | null
    /** The drawing of it, for ComfyUI's own page. */
    workflow: string | null
}

export class FileError extends Error {}

export const FILE_MAX = 256 * 1024 * 1024
const TEXT_MAX = 64 * 1024 * 1024 // of one text, unpacked: a small file can hold a large one

export async function readCarried(bytes: Uint8Array): Promise<Carried> {
    if (startsWith(bytes, PNG)) return picture(await pngTexts(bytes))
    if (ascii(bytes, 0, 4) === 'RIFF' && ascii(bytes, 8, 4) === 'WEBP') return picture(webpTexts(bytes))
    if (bytes[0] === 0xff && bytes[1] === 0xd8) return picture(jpegTexts(bytes))
    const text = utf8(bytes)
    if (text === null || text.includes('\0')) throw new FileError('This is neither JSON nor a picture that can hold a workflow (PNG, WebP, JPEG).')
    return { kind: 'text', prompt: text, workflow: null }
}

function picture(texts: Map<string, string>): Carried {
    return { kind: 'picture', prompt: texts.get('prompt') ?? null, workflow: texts.get('workflow') ?? null }
}

// ---- bytes

const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

const startsWith = (bytes: Uint8Array, head: number[]): boolean => head.every((b, i) => bytes[i] === b)
const view = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

function ascii(bytes: Uint8Array, at: number, length: number): string {
    return String.fromCharCode(...bytes.subarray(at, at + length))
}

function utf8(bytes: Uint8Array): string | null {
    try {
        return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
    } catch {
        return null
    }
}

/** Latin-1 by the standard, UTF-8 by many a tool: what is UTF-8 by all its bytes was meant so. */
function loose(bytes: Uint8Array): string {
    const text = utf8(bytes)
    if (text !== null) return text
    let out = ''
    for (let at = 0; at < bytes.length; at += 4096) out += ascii(bytes, at, 4096)
    return out
}

async function inflate(bytes: Uint8Array): Promise<Uint8Array> {
    const reader = new Blob([bytes as Uint8Array<ArrayBuffer>]).stream().pipeThrough(new DecompressionStream('deflate')).getReader()
    const pieces: Uint8Array[] = []
    let length = 0
    try {
        for (;;) {
            const { done, value } = await reader.read()
            if (done) break
            length += value.length
            if (length > TEXT_MAX) throw new FileError('The workflow in this picture is too large.')
            pieces.push(value)
        }
    } catch (e) {
        void reader.cancel().catch(() => {})
        throw e instanceof FileError ? e : new FileError('The workflow in this picture is damaged.')
    }
    const all = new Uint8Array(length)
    let at = 0
    for (const p of pieces) {
        all.set(p, at)
        at += p.length
    }
    return all
}

// ---- PNG

/** Keyword and text of tEXt, zTXt, iTXt, and of `comf`, where ComfyUI puts them in animated pictures. */
async function pngTexts(bytes: Uint8Array): Promise<Map<string, string>> {
    const texts = new Map<string, string>()
    const look = view(bytes)
    for (let at = 8; at + 12 <= bytes.length; ) {
        const length = look.getUint32(at)
        const type = ascii(bytes, at + 4, 4)
        const data = bytes.subarray(at + 8, at + 8 + length)
        if (data.length < length) break // cut off: what was before it counts
        if (type === 'tEXt' || type === 'comf' || type === 'zTXt' || type === 'iTXt') {
            const end = data.indexOf(0)
            const key = end > 0 ? ascii(data, 0, end) : ''
            if ((key === 'prompt' || key === 'workflow') && !texts.has(key)) texts.set(key, await pngText(type, data.subarray(end + 1)))
        }
        if (type === 'IEND') break
        at += 12 + length
    }
    return texts
}

async function pngText(type: string, rest: Uint8Array): Promise<string> {
    if (type === 'zTXt') return loose(await inflate(rest.subarray(1)))
    if (type !== 'iTXt') return loose(rest)
    const packed = rest[0] === 1
    const language = rest.indexOf(0, 2)
    const translated = language < 0 ? -1 : rest.indexOf(0, language + 1)
    if (translated < 0) throw new FileError('The workflow in this picture is damaged.')
    const text = rest.subarray(translated + 1)
    return loose(packed ? await inflate(text) : text)
}

// ---- WebP and JPEG: texts in EXIF

function webpTexts(bytes: Uint8Array): Map<string, string> {
    const look = view(bytes)
    for (let at = 12; at + 8 <= bytes.length; ) {
        const length = look.getUint32(at + 4, true)
        if (ascii(bytes, at, 4) === 'EXIF') return exifTexts(bytes.subarray(at + 8, at + 8 + length))
        at += 8 + length + (length & 1)
    }
    return new Map()
}

function jpegTexts(bytes: Uint8Array): Map<string, string> {
    const look = view(bytes)
    for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff; ) {
        const mark = bytes[at + 1]!
        if (mark === 0xda || mark === 0xd9) break // the picture itself
        const length = look.getUint16(at + 2)
        if (mark === 0xe1 && ascii(bytes, at + 4, 4) === 'Exif') return exifTexts(bytes.subarray(at + 4, at + 2 + length))
        at += 2 + length
    }
    return new Map()
}

/** ComfyUI writes "prompt:{…}" and "workflow:{…}" into whatever text tags it finds free. */
function exifTexts(data: Uint8Array): Map<string, string> {
    const texts = new Map<string, string>()
    const tiff = ascii(data, 0, 6) === 'Exif\0\0' ? data.subarray(6) : data
    if (tiff.length < 8) return texts
    const order = ascii(tiff, 0, 2)
    if (order !== 'II' && order !== 'MM') return texts
    const little = order === 'II'
    const look = view(tiff)
    const first = look.getUint32(4, little)
    if (first + 2 > tiff.length) return texts
    const count = look.getUint16(first, little)
    for (let i = 0; i < count; i++) {
        const at = first + 2 + i * 12
        if (at + 12 > tiff.length) break
        const length = look.getUint32(at + 4, little)
        if (look.getUint16(at + 2, little) !== 2 || length <= 4) continue
        const from = look.getUint32(at + 8, little)
        const text = loose(tiff.subarray(from, from + length)).replace(/\0+$/, '')
        const found = /^(prompt|workflow):\s*/i.exec(text)
        if (found) texts.set(found[1]!.toLowerCase(), text.slice(found[0].length))
    }
    return texts
}
