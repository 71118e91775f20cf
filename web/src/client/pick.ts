/*  What a caller calls "the result of a task", made out. Pages have many shapes of it: the body of /status or /result, a job
 *  record, a history entry, an `executed` message, an image {filename, subfolder, type}, an id, a URL. Pure. */
import { isObject } from './error'
import { isUuid } from './uuid'

export interface FileName {
    filename: string
    subfolder: string
    type: string
}

/** id: the job's, as far as it can be told; then what names the image best: its URL, its file name, or nothing. */
export interface Picked {
    id: string | null
    url: string | null
    file: FileName | null
}

const IDS = ['prompt_id', 'promptId', 'id', 'task_id', 'taskId', 'job_id', 'jobId', 'job']
const URLS = ['image_url', 'imageUrl', 'url', 'src']
const INSIDE = ['images', 'outputs', 'output', 'image', 'gifs', 'result', 'data', 'image_urls']

/** `<job id>[.<attempt>][/<subfolder>]`, as the gateway names folders towards native clients. */
export function idOfFolder(subfolder: string): string | null {
    const head = subfolder.split('/', 1)[0]!.replace(/\.\d+$/, '')
    return isUuid(head) ? head : null
}

const text = (v: unknown): string | null => (typeof v === 'string' && v !== '' ? v : null)

function fileOf(o: Record<string, unknown>): FileName | null {
    const filename = text(o.filename)
    return filename === null ? null : { filename, subfolder: text(o.subfolder) ?? '', type: text(o.type) ?? 'output' }
}

/** `[<subfolder>/]<name>.<ext>[ [<type>]]`, as graphs name files. */
function fileOfText(s: string): FileName | null {
    const found = /^(?:([^?#:/][^?#:]*)\/)?([^?#:/]+\.\w{2,5})(?: \[(output|temp|input)\])?$/.exec(s)
    return found && { filename: found[2]!, subfolder: found[1] ?? '', type: found[3] ?? 'output' }
}

function firstText(o: Record<string, unknown>, keys: string[], fits: (s: string) => boolean): string | null {
    for (const key of keys) {
        const value = text(o[key])
        if (value !== null && fits(value)) return value
    }
    return null
}

/** The best of several: saved images before previews. */
function best(list: unknown[], depth: number): Picked | null {
    const found = list.map((v) => pick(v, depth + 1)).filter((p) => p !== null)
    return found.find((p) => p.file === null || p.file.type === 'output') ?? found[0] ?? null
}

export function pick(v: unknown, depth = 0): Picked | null {
    if (depth > 6) return null
    if (typeof v === 'string') {
        const s = v.trim()
        if (s === '') return null
        if (isUuid(s)) return { id: s, url: null, file: null }
        const file = fileOfText(s)
        return file ? { id: idOfFolder(file.subfolder), url: null, file } : { id: null, url: s, file: null }
    }
    if (Array.isArray(v)) return best(v, depth)
    if (!isObject(v)) return null
    const ofList = Array.isArray(v.prompt) && isUuid(v.prompt[1]) ? v.prompt[1] : null // a history entry
    const id = firstText(v, IDS, isUuid) ?? ofList
    const url = firstText(v, URLS, () => true)
    if (url !== null) return { id, url, file: fileOf(v) }
    const file = fileOf(v)
    if (file !== null) return { id: id ?? idOfFolder(file.subfolder), url: null, file }
    for (const key of INSIDE) {
        const inside = isObject(v[key]) && key !== 'image' ? (pickNodes(v[key], depth) ?? pick(v[key], depth + 1)) : pick(v[key], depth + 1)
        if (inside !== null) return { ...inside, id: id ?? inside.id }
    }
    if (id !== null) return { id, url: null, file: null }
    const keys = Object.keys(v)
    if (keys.length === 1 && isUuid(keys[0])) { // GET /history/{id}
        const inside = pick(v[keys[0]], depth + 1)
        return { url: null, file: null, ...inside, id: keys[0] }
    }
    return null
}

/** Outputs by node: {"9": {"images": […]}}. */
function pickNodes(nodes: Record<string, unknown>, depth: number): Picked | null {
    return fileOf(nodes) || firstText(nodes, [...URLS, ...IDS], () => true) ? null : best(Object.values(nodes).filter(isObject), depth)
}

/** Is this output the file of that name? `subfolder` may be the server's or the gateway's. */
export function isFile(o: FileName, job: string, want: FileName): boolean {
    if (o.filename !== want.filename || o.type !== want.type) return false
    if (o.subfolder === want.subfolder) return true
    const slash = want.subfolder.indexOf('/')
    return idOfFolder(want.subfolder) === job && (slash < 0 ? '' : want.subfolder.slice(slash + 1)) === o.subfolder
}

/** The file that a URL of a ComfyUI server's /view names. */
export function fileOfView(url: URL): FileName | null {
    if (!/\/view$/.test(url.pathname)) return null
    return fileOf(Object.fromEntries(url.searchParams))
}
