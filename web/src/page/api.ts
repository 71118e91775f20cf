// What the gateway says (docs/api.md), and how it is asked.

export type State = 'queued' | 'dispatching' | 'running' | 'collecting' | 'succeeded' | 'failed' | 'canceled' | 'expired'
export const LIVE: readonly State[] = ['queued', 'dispatching', 'running', 'collecting']
export const ENDED: readonly State[] = ['succeeded', 'failed', 'canceled', 'expired']

export interface Progress {
    value: number
    max: number
    node: string | null
}

export interface Output {
    n: number
    node_id?: string
    kind: 'image' | 'video' | 'audio' | 'text' | 'file' | 'latent' | '3d' | 'json'
    filename: string
    subfolder?: string
    type?: string
    size: number
    mime: string
    blake3?: string
    url: string
}

export interface Fault {
    code: string
    message: string
    server?: string | null
    attempt?: number | null
    detail?: unknown
}

/** A job as lists show it (view=brief). */
export interface JobBrief {
    id: string
    state: State
    server: { name: string; url: string | null } | null
    window_id: string | null
    client_id: string | null
    attempt: number
    progress: Progress
    queue_position: number | null
    created_at: number
    started_at: number | null
    finished_at: number | null
    error: Fault | null
    outputs: Output[]
    outputs_count?: number
}

export interface Job extends JobBrief {
    registered_at: number
    attempts: { server: string | null; started_at: number | null; ended_at: number | null; error: Fault | null }[]
    timeline: { at: number; state: State; note: string | null }[]
    retry_of?: string
}

export interface LogLine {
    at: number
    level: string
    text: string
}

export interface ServerStats {
    successes: number
    failures: number
    fences: number
    restarts: number
    questions: number
}

export interface Server {
    name: string
    url: string
    state: 'up' | 'suspect' | 'down' | 'fenced' | 'draining'
    reason: string | null
    depth: number
    tags: string[]
    running: string[]
    queue: number | null
    version: string | null
    nodes: number
    last_seen?: number | null
    stats?: ServerStats
    recent?: { jobs: number; seconds_median: number; seconds_mean: number } | null
    jobs?: { id: string; state: State; progress: Progress; started_at: number | null }[]
}

export interface ServerDetail extends Server {
    models: string[]
    devices: { name: string; type: string; vram_total: number; vram_free: number }[]
    devices_at: number | null
    missing_nodes: string[]
    missing_nodes_count: number | null
    extra_nodes: string[]
    extra_nodes_count: number | null
    versions: { comfyui: string | null; python: string | null; pytorch: string | null }
}

export interface WindowRow {
    window_id: string | null
    client_ids: string[]
    last_seen: number
    jobs: { id: string; state: State; server: string | null; client_id: string | null; registered_at: number }[]
}

export interface Summary {
    jobs: Record<State, number>
    servers: Record<Server['state'], number>
    ready: boolean
    reason: string | null
    version: string
    uptime_ms: number
    frontend: boolean
}

/** What went wrong with a request: `code` is the gateway's name for it, or `unreachable`. */
export class ApiError extends Error {
    constructor(
        readonly code: string,
        message: string,
        readonly status: number,
        readonly detail: unknown = null,
    ) {
        super(message)
    }
}

/** Both shapes of errors: `{error: {code, message}}` of our routes, `{error: {type, message, details}, node_errors}` of ComfyUI's. */
async function fault(res: Response): Promise<ApiError> {
    const text = await res.text().catch(() => '')
    try {
        const body = JSON.parse(text) as { error?: { code?: string; type?: string; message?: string; details?: string } | string }
        const e = body.error
        if (e && typeof e === 'object')
            return new ApiError(e.code ?? e.type ?? 'error', e.message ?? res.statusText, res.status, body)
        if (typeof e === 'string') return new ApiError('error', e, res.status, body)
    } catch {
        // no JSON
    }
    return new ApiError(`http_${res.status}`, text.slice(0, 300) || res.statusText || `HTTP ${res.status}`, res.status)
}

export async function request(path: string, init: RequestInit = {}): Promise<Response> {
    let res: Response
    try {
        res = await fetch(path, init)
    } catch (e) {
        if ((e as Error).name === 'AbortError') throw e
        throw new ApiError('unreachable', 'The gateway cannot be reached.', 0)
    }
    if (!res.ok) throw await fault(res)
    return res
}

export async function get<T>(path: string, signal?: AbortSignal): Promise<T> {
    return (await request(path, { signal: signal ?? null })).json() as Promise<T>
}

/** For routes that change something; body is sent as JSON. */
export async function send<T>(method: 'POST' | 'DELETE', path: string, body?: unknown): Promise<T> {
    const init: RequestInit = { method }
    if (body !== undefined) {
        init.headers = { 'Content-Type': 'application/json' }
        init.body = JSON.stringify(body)
    }
    const res = await request(path, init)
    return (res.headers.get('Content-Type') ?? '').includes('json') ? (res.json() as Promise<T>) : (undefined as T)
}

export const jobPath = (id: string): string => `/mux/v1/jobs/${encodeURIComponent(id)}`
export const serverPath = (name: string): string => `/mux/v1/servers/${encodeURIComponent(name)}`
export const thumb = (o: Output, size: 64 | 128 | 256 | 512 | 1024): string => `${o.url}/thumb?size=${size}`
