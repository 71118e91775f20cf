/*  What a window knows of its tasks. Pure: what is heard goes in, what is told comes out. */
import type { JobOutput, JobState, WindowTask } from '../client'
import { isObject } from './error'
import type { Entry } from './stream'

/** A task and what has been heard of it. */
export interface Known {
    task: WindowTask
    /** Of the state: when it was entered, by the gateway's clock. */
    at: number
    outputs: JobOutput[]
    /** The end has been told. */
    ended: boolean
}

const RANK: Record<JobState, number> = {
    queued: 0, dispatching: 1, running: 2, collecting: 3, succeeded: 9, failed: 9, canceled: 9, expired: 9,
}

export const isState = (s: unknown): s is JobState => typeof s === 'string' && Object.hasOwn(RANK, s)

export const isEnd = (s: JobState): boolean => RANK[s] === 9

const str = (v: unknown): string | null => (typeof v === 'string' ? v : null)
const num = (v: unknown): number => (typeof v === 'number' ? v : 0)

/** Of two states of one job at the same moment, the later one: a job that is queued again has had an attempt. */
const order = (state: JobState, attempt: number): number => attempt * 10 + (state === 'queued' && attempt > 0 ? 5 : RANK[state])

/** Puts an entry in. False: it was known, or is older than what is. */
export function take(k: Known, e: Entry): boolean {
    if (k.ended) return false
    if (e.event === 'progress') return true
    if (e.event === 'output') return takeOutput(k, e.data)
    const state = e.data.state
    if ((e.event !== 'state' && e.event !== 'end') || !isState(state)) return false
    const at = num(e.data.at)
    const attempt = num(e.data.attempt)
    const older = at < k.at || (at === k.at && order(state, attempt) <= order(k.task.state, k.task.attempt))
    if (older && !isEnd(state)) return false
    if (attempt > k.task.attempt) k.outputs = [] // those of an attempt that was given up
    k.at = at
    k.ended = isEnd(state)
    k.task.state = state
    k.task.attempt = attempt
    k.task.serverName = str(e.data.server)
    return true
}

function takeOutput(k: Known, o: Record<string, unknown>): boolean {
    if (typeof o.n !== 'number' || k.outputs.some((known) => known.n === o.n)) return false
    const { job: _job, at: _at, ...output } = o
    k.outputs.push(output as unknown as JobOutput)
    return true
}

const list = (v: unknown): Record<string, unknown>[] => (Array.isArray(v) ? (v as unknown[]).filter(isObject) : [])

const errorOf = (e: unknown) => (isObject(e) ? { error: { code: e.code, message: e.message } } : {})

/** A job record as the entries that have told of it so far: the same as in the stream. */
export function entriesOf(record: Record<string, unknown>): Entry[] {
    const { id: job, state } = record
    if (!isState(state)) return []
    const attempts = list(record.attempts)
    const entry = (event: string, data: Record<string, unknown>): Entry => ({ id: null, event, data: { job, ...data } })
    const entries: Entry[] = []
    let attempt = 0
    for (const t of list(record.timeline)) {
        if (!isState(t.state) || isEnd(t.state)) continue
        if (t.state === 'dispatching') attempt = Math.min(attempt + 1, num(record.attempt))
        const of = attempts[attempt - 1]
        const server = t.state === 'queued' ? null : str(of?.server)
        entries.push(entry('state', { at: t.at, state: t.state, server, attempt, ...(t.state === 'queued' ? errorOf(of?.error) : {}) }))
    }
    const newest = list(record.timeline).pop()
    const now = {
        at: newest?.state === state ? num(newest.at) : num(record.finished_at ?? record.created_at),
        state,
        server: isObject(record.server) ? str(record.server.name) : null,
        attempt: num(record.attempt),
    }
    if (!isEnd(state)) return [...entries, entry('state', now)]
    return [...entries, ...list(record.outputs).map((o) => entry('output', { at: now.at, ...o })), entry('end', { ...now, ...errorOf(record.error) })]
}

/* --- what outlasts a reload --- */

const MOST = 500 // tasks of a window

/** The oldest that have ended go first. Gives the ids of those that went. */
export function prune(tasks: Map<string, Known>, most = MOST): string[] {
    const gone: string[] = []
    for (const wanted of [(k: Known) => k.ended, () => true])
        for (const [id, k] of tasks) {
            if (tasks.size <= most) return gone
            if (wanted(k) && tasks.delete(id)) gone.push(id)
        }
    return gone
}

export const toText = (tasks: Map<string, Known>): string => JSON.stringify([...tasks.values()])

/** What cannot be read is left out: it was written by an older module, or by somebody else. */
export function fromText(text: string | null): Map<string, Known> {
    const tasks = new Map<string, Known>()
    let list: unknown = null
    try {
        list = JSON.parse(text ?? '')
    } catch {
        return tasks
    }
    for (const k of Array.isArray(list) ? (list as unknown[]) : []) {
        if (!isObject(k) || !isObject(k.task) || !Array.isArray(k.outputs)) continue
        const t = k.task as Partial<WindowTask>
        if (typeof t.promptId !== 'string' || !isState(t.state)) continue
        tasks.set(t.promptId, { task: t as WindowTask, at: num(k.at), outputs: k.outputs as JobOutput[], ended: isEnd(t.state) })
    }
    return tasks
}
