// What the gateway tells by itself: one stream of events for the whole page. It is closed while the page cannot be seen
// (a browser keeps few connections to one host) and goes on where it was, or says `reset`.
import { signal } from '@preact/signals'
import type { Output, Progress, State } from './api'

export interface StateEvent {
    kind: 'state' | 'end'
    job: string
    at: number
    state: State
    server: string | null
    attempt: number
    error?: { code: string; message: string } | null
}
export interface ProgressEvent extends Progress {
    kind: 'progress'
    job: string
    at: number
}
export interface OutputEvent {
    kind: 'output'
    job: string
    at: number
    output: Output
}
/** Something may have been missed: ask again for what is shown. */
export interface ResetEvent {
    kind: 'reset'
}
export type LiveEvent = StateEvent | ProgressEvent | OutputEvent | ResetEvent

export type Link = 'connecting' | 'live' | 'lost' | 'asleep'
export const link = signal<Link>('connecting')

const listeners = new Set<(e: LiveEvent) => void>()
let source: EventSource | null = null
let lastId = ''
let heardAt = 0
let retryAfter = 500
let retryTimer = 0

/** Tells fn all that comes; the returned function ends it. */
export function listen(fn: (e: LiveEvent) => void): () => void {
    listeners.add(fn)
    return () => listeners.delete(fn)
}

function tell(e: LiveEvent): void {
    for (const fn of listeners) fn(e)
}

function take(kind: LiveEvent['kind'], m: MessageEvent<string>): void {
    if (m.lastEventId) lastId = m.lastEventId
    heardAt = Date.now()
    const data = JSON.parse(m.data) as Record<string, unknown>
    if (kind === 'output') tell({ kind, job: data.job as string, at: data.at as number, output: data as unknown as Output })
    else tell({ ...data, kind } as LiveEvent)
}

function open(): void {
    const first = lastId === ''
    const es = new EventSource(`/mux/v1/events${first ? '' : `?last_event_id=${encodeURIComponent(lastId)}`}`)

    source = es
    es.onopen = () => {
        retryAfter = 500
        link.value = 'live'
        // Without an id to go on from, what happened since the last answer is not known.
        if (first && heardAt) tell({ kind: 'reset' })
        heardAt = Date.now()
    }
    // Tried again by our own clock: the browser gives up for good after some answers (a proxy's 502, for one).
    es.onerror = () => {
        es.close()
        if (source !== es) return
        source = null
        link.value = 'lost'
        retryTimer = window.setTimeout(open, retryAfter * (0.75 + Math.random() / 2))
        retryAfter = Math.min(retryAfter * 1.6, 5000)
    }
    for (const kind of ['state', 'end', 'progress', 'output', 'reset'] as const)
        es.addEventListener(kind, (m) => take(kind, m as MessageEvent<string>))
}

function close(): void {
    clearTimeout(retryTimer)
    source?.close()
    source = null
}

export function start(): void {
    const look = () => {
        if (document.visibilityState === 'hidden') {
            close()
            link.value = 'asleep'
        } else if (!source) {
            clearTimeout(retryTimer)
            link.value = 'connecting'
            open()
        }
    }
    document.addEventListener('visibilitychange', look)
    // A page in the back-forward cache comes back with its stream closed.
    window.addEventListener('pageshow', (e) => {
        if (e.persisted) {
            close()
            look()
        }
    })
    window.addEventListener('pagehide', close)
    look()
}
