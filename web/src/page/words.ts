// How things are said.
import { signal } from '@preact/signals'
import type { JobBrief, State } from './api'

/** Ticks while the page is looked at: for what is said relative to now. */
export const now = signal(Date.now())
setInterval(() => {
    if (document.visibilityState === 'visible') now.value = Date.now()
}, 1000)

export const STATE_WORDS: Record<State, string> = {
    queued: 'Queued',
    dispatching: 'Sending',
    running: 'Running',
    collecting: 'Storing',
    succeeded: 'Done',
    failed: 'Failed',
    canceled: 'Canceled',
    expired: 'Expired',
}

export function ago(ms: number, at: number): string {
    const s = Math.round((at - ms) / 1000)
    if (s < 5) return 'just now'
    if (s < 60) return `${s} s ago`
    if (s < 3600) return `${Math.floor(s / 60)} min ago`
    if (s < 86400) return `${Math.floor(s / 3600)} h ago`
    return `${Math.floor(s / 86400)} d ago`
}

export function duration(ms: number): string {
    if (ms < 0) ms = 0
    if (ms < 1000) return `${Math.round(ms)} ms`
    if (ms < 59950) return `${(ms / 1000).toFixed(1)} s`
    const s = Math.round(ms / 1000)
    if (s < 60) return `${s} s`
    if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`
    return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
}

export function bytes(n: number): string {
    if (n < 1024) return `${n} B`
    const units = ['KiB', 'MiB', 'GiB', 'TiB']
    let i = -1
    do {
        n /= 1024
        i++
    } while (n >= 1024 && i < units.length - 1)
    return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`
}

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' })
const day = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: 'numeric' })

/** 14:03:22.125, with the day in front if it is not today. */
export function moment(ms: number): string {
    const t = new Date(ms)
    const time = `${clock.format(t)}.${String(t.getMilliseconds()).padStart(3, '0')}`
    return t.toDateString() === new Date().toDateString() ? time : `${day.format(t)} ${time}`
}

export function full(ms: number): string {
    return `${day.format(ms)} ${clock.format(ms)}`
}

/** The end of an id: its beginning is the time, which jobs made together share. */
export function shortId(id: string): string {
    return id.length > 12 ? `…${id.slice(-8)}` : id
}

/** One line beside the badge: what a job is doing, or how it ended. A place in the queue changes with every job that
 * leaves it, without a word about this one: lists do not show it. */
export function story(j: JobBrief): string {
    switch (j.state) {
        case 'queued':
            return j.attempt > 0 ? 'Waiting for another server' : 'Waiting for a server'
        case 'dispatching':
            return 'The workflow is on its way'
        case 'running':
            if (!j.progress.node) return ''
            return `Node ${j.progress.node}${j.progress.max > 1 ? `, ${j.progress.value} of ${j.progress.max}` : ''}`
        case 'collecting':
            return 'Its files are on their way'
        case 'succeeded': {
            const n = j.outputs_count ?? j.outputs.length
            return n === 1 ? '1 output' : `${n} outputs`
        }
        case 'canceled':
            return 'Canceled'
        default:
            return j.error ? j.error.message : STATE_WORDS[j.state]
    }
}

/** How long it took, or has been at it. */
export function took(j: JobBrief, at: number): number | null {
    if (j.started_at === null || j.state === 'queued') return null // an attempt before may have begun
    return (j.finished_at ?? at) - j.started_at
}
