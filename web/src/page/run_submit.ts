// Sends what is in the Run view: once or many times, each with its seeds.
import { batch, computed, signal } from '@preact/signals'
import { claimWindow } from '../client/claim'
import { uuid } from '../client/uuid'
import { ApiError, request } from './api'
import { stringify, stringTree, type ObjectTree, type Tree } from './json_text'
import { edited, edits, field, fieldsOfForm, loaded, nodeRefusals, put, saveSoon, seeds, type Field } from './run_state'
import { applyEdits, check, complaints, extraFor, seedOf } from './run_values'

export const COUNT_MAX = 100
const TRIES = 5

export const busy = signal<{ done: number; of: number } | null>(null)
/** What kept the last submit from being done. */
export const trouble = signal<{ title: string; text: string; code: string } | null>(null)
/** Grows when something is to be looked at: the first control with a fault. */
export const faultsAt = signal(0)
/** What each job of this window was told to do differently, in words. */
export const notes = signal<ReadonlyMap<string, string>>(new Map())

export const faulty = computed<Field[]>(() => edited.value.filter((f) => f.fault !== null))
/** Whether runs would differ from each other. */
export const varies = computed(() => seeds.value.some((f) => f.mode.value !== 'fixed'))

let stopped = false

/** No more are sent. What was accepted stays. */
export function stop(): void {
    stopped = true
}

/** Gives how many were accepted. */
export async function submit(count: number): Promise<number> {
    if (!loaded.value || busy.value) return 0
    clearRefusals()
    if (faulty.value.length) {
        faultsAt.value++
        return 0
    }
    stopped = false
    busy.value = { done: 0, of: count }
    let done = 0
    try {
        const me = claimWindow()
        await me.ready
        for (; done < count && !stopped; done++) {
            const run = prepare(done, me.id)
            const answer = await post(run.body, me.id)
            batch(() => {
                notes.value = new Map([...notes.value, [answer.prompt_id, run.note]])
                busy.value = { done: done + 1, of: count }
                refuse(answer.node_errors, 'Accepted, but parts of it will not run.')
            })
        }
    } catch (e) {
        fail(e as ApiError, done, count)
    } finally {
        goOn(done)
        busy.value = null
    }
    return done
}

function clearRefusals(): void {
    batch(() => {
        trouble.value = null
        nodeRefusals.value = new Map()
        for (const f of fieldsOfForm.value) f.refused.value = null
    })
}

interface Run {
    body: string
    note: string
}

let lastSeeds = new Map<Field, string>()

/** The request of run k of this window, as text: what is not edited is as it came. */
function prepare(k: number, me: string): Run {
    const w = loaded.value!
    const all = edits()
    const said: string[] = []
    lastSeeds = new Map()
    for (const f of seeds.value) {
        const text = seedOf(f.input, f.value, f.mode.value, k)
        lastSeeds.set(f, text)
        if (f.mode.value === 'fixed') continue
        const c = check(f.input, text)
        if ('value' in c) put(all, f.node, f.input.name, c.value)
        said.push(`${f.input.name} ${text}`)
    }
    const extra = extraFor(w.extra, all.size > 0)
    const members: [string, Tree][] = [
        ['prompt', applyEdits(w.prompt, all)],
        ['client_id', stringTree(me)],
        ['prompt_id', stringTree(uuid())], // sent again after a lost answer, it is still one job
    ]
    if (extra) members.push(['extra_data', extra])
    const body: ObjectTree = { type: 'object', members }
    return { body: stringify(body), note: said.slice(0, 3).join(', ') }
}

/** As ComfyUI's own page does after each run: the next ones count on; of random ones the last is shown, to be kept. */
function goOn(done: number): void {
    if (done === 0) return
    batch(() => {
        for (const f of seeds.value) {
            if (f.mode.value === 'random') f.set(lastSeeds.get(f) ?? f.value)
            else if (f.mode.value === 'increment') f.set(seedOf(f.input, f.value, 'increment', done))
        }
    })
    saveSoon()
}

interface Accepted {
    prompt_id: string
    node_errors?: unknown
}

async function post(body: string, me: string): Promise<Accepted> {
    for (let n = 1; ; n++) {
        try {
            const headers = { 'Content-Type': 'application/json', 'X-Comfymux-Window': me }
            return (await (await request('/prompt', { method: 'POST', headers, body })).json()) as Accepted
        } catch (e) {
            if (!(e instanceof ApiError) || e.status !== 0 || n === TRIES || stopped) throw e
            await new Promise((wake) => setTimeout(wake, 300 * n))
        }
    }
}

function fail(e: ApiError, done: number, count: number): void {
    const so = done > 0 ? ` ${done} of ${count} were accepted before.` : ''
    const node_errors = (e.detail as { node_errors?: unknown } | null)?.node_errors
    batch(() => {
        trouble.value = { title: titleOf(e), text: `${textOf(e)}${so}`, code: e.code }
        refuse(node_errors, '')
        const missing = (e.detail as { error?: { extra_info?: { node_id?: unknown } } } | null)?.error?.extra_info?.node_id
        if (typeof missing === 'string') nodeRefusals.value = new Map([...nodeRefusals.value, [missing, [e.message]]])
        faultsAt.value++
    })
}

/** Puts each complaint at the input that it names. */
function refuse(node_errors: unknown, title: string): void {
    const all = complaints(node_errors)
    if (all.length === 0) return
    const nodes = new Map<string, string[]>()
    batch(() => {
        for (const c of all) {
            const f = c.input === null ? undefined : field(c.node, c.input)
            if (f) f.refused.value = c.text
            else nodes.set(c.node, [...(nodes.get(c.node) ?? []), c.input === null ? c.text : `${c.input}: ${c.text}`])
        }
        nodeRefusals.value = nodes
        if (title) {
            trouble.value = { title, text: 'See the marked inputs.', code: 'node_errors' }
            faultsAt.value++
        }
    })
}

function titleOf(e: ApiError): string {
    switch (e.status) {
        case 0:
            return 'The gateway cannot be reached.'
        case 400:
            return 'The workflow was not accepted.'
        case 413:
            return 'The workflow is too large.'
        case 429:
            return 'Too many jobs are waiting.'
        case 503:
            return 'The gateway takes no jobs now.'
        default:
            return 'It was not accepted.'
    }
}

function textOf(e: ApiError): string {
    switch (e.status) {
        case 0:
            return 'Nothing was lost here: try again.'
        case 429:
            return `Try again when some of them are done. ${e.message}`
        case 503:
            if (e.code === 'draining') return 'It is being stopped or restarted; try again in a while.'
            if (e.code === 'storage_failed') return 'It cannot write to its disk; try again when there is space.'
            return `${e.message} Try again in a while.`
        default:
            return e.message
    }
}
