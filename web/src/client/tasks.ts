/*  The tasks of this window at one gateway: followed while they are under way, told of to whoever listens, and kept in
 *  sessionStorage, so that they are known after a reload. */
import type { JobOutput, MuxEvents, WindowTask } from '../client'
import { session } from './claim'
import { isObject } from './error'
import { type Feed, feedOf } from './feed'
import { ask } from './http'
import type { Entry } from './stream'
import { type Known, entriesOf, fromText, prune, take, toText } from './task'
import { anyOf, backoff, pause } from './wait'

type Handlers = { [K in keyof MuxEvents]?: Set<(e: MuxEvents[K]) => void> }

const EARLY = 300 // entries that are kept for tasks about to be registered
const WITHOUT = 4000 // ms between questions while there is no stream
const UNSEEN = 20000 // ms out of sight, after which it is asked how things stand

const servers = new Map<string, Map<string, string>>() // by gateway: server names and URLs, as last heard

export class Tasks {
    private known: Map<string, Known>
    private windowId: string
    private readonly here = new Set<string>() // registered by this document
    private readonly handlers: Handlers = {}
    private readonly following = new Map<string, () => void>()
    private readonly early: Entry[] = []
    private readonly asking = new Set<string>()
    private readonly held = new Map<string, Entry[]>() // what came before the answer that tells what was before it
    private readonly unsure = new Set<string>() // could not be asked for
    private readonly names: Map<string, string>
    private readonly feed: Feed
    private readonly stop = new AbortController()
    private readonly forget: () => void
    private saving: ReturnType<typeof setTimeout> | undefined
    private polling = false
    private lane: Promise<void> = Promise.resolve()

    constructor(private readonly base: string, private readonly window: () => string) {
        this.windowId = window()
        this.names = servers.get(base) ?? new Map<string, string>()
        servers.set(base, this.names)
        this.feed = feedOf(base)
        this.known = fromText(session()?.getItem(this.key()) ?? null)
        this.forget = this.feed.listen({
            entry: (e) => this.hear(e),
            up: (up) => this.heardUp(up),
            gap: () => this.catchUpAll(),
        })
        for (const [id, k] of this.known) if (!k.ended) this.follow(id)
        if (typeof addEventListener !== 'function') return
        const signal = this.stop.signal
        addEventListener('pagehide', () => this.save(), { signal })
        addEventListener('pageshow', (e) => { if (e.persisted) this.catchUpAll() }, { signal })
        addEventListener('online', () => this.catchUpAll(), { signal })
        // A page that was not seen may have been suspended.
        let hidden = 0
        if (typeof document === 'object') document.addEventListener('visibilitychange', () => {
            if (document.visibilityState === 'hidden') hidden = Date.now()
            else if (Date.now() - hidden > UNSEEN) this.catchUpAll()
        }, { signal })
    }

    close(): void {
        this.save()
        this.stop.abort()
        this.forget()
        for (const release of this.following.values()) release()
        this.following.clear()
    }

    /* --- what is known --- */

    get(id: string): Known | null {
        return this.known.get(id) ?? null
    }

    all(): Known[] {
        return [...this.known.values()]
    }

    serverUrl(name: string | null): string | null {
        return name === null ? null : (this.names.get(name) ?? null)
    }

    /** heard: nothing of it can have been missed. */
    register(promptId: string, more: Record<string, unknown>, clientId: string, heard: boolean): WindowTask {
        let k = this.known.get(promptId)
        this.here.add(promptId)
        if (!k) {
            const task: WindowTask = {
                executionServer: null, registeredAt: Date.now(), clientId, ...more,
                promptId, windowId: this.windowId, serverName: null, state: 'queued', attempt: 0,
            }
            k = { task, at: 0, outputs: [], ended: false }
            this.known.set(promptId, k)
            for (const id of prune(this.known)) this.unfollow(id)
        } else {
            const { promptId: _p, windowId: _w, serverName: _n, state: _s, attempt: _a, ...rest } = more
            Object.assign(k.task, rest)
        }
        this.save()
        if (!k.ended) {
            this.follow(promptId)
            if (!heard) this.catchUp(promptId)
            for (const e of this.early.filter((e) => e.data.job === promptId)) this.hear(e)
        }
        return k.task
    }

    /** The window's id is certain now. */
    moved(): void {
        const id = this.window()
        if (id === this.windowId) return
        // Those that came with the copy of another window's storage stay that window's.
        for (const [promptId, k] of this.known) {
            if (this.here.has(promptId)) {
                k.task.windowId = id
                continue
            }
            this.unfollow(promptId)
            this.known.delete(promptId)
        }
        session()?.removeItem(this.key())
        this.windowId = id
        this.save()
    }

    /* --- what happens --- */

    on<K extends keyof MuxEvents>(event: K, fn: (e: MuxEvents[K]) => void): () => void {
        const set = ((this.handlers[event] as Set<(e: MuxEvents[K]) => void> | undefined) ?? new Set<(e: MuxEvents[K]) => void>())
        this.handlers[event] = set as Handlers[K]
        const own = (e: MuxEvents[K]) => fn(e) // so that the same function may be given twice
        set.add(own)
        return () => set.delete(own)
    }

    private emit<K extends keyof MuxEvents>(event: K, e: MuxEvents[K]): void {
        for (const fn of [...((this.handlers[event] as Set<(e: MuxEvents[K]) => void> | undefined) ?? [])]) {
            try {
                fn(e)
            } catch (fault) {
                queueMicrotask(() => {
                    throw fault // the page's own, shown as such; the others are told all the same
                })
            }
        }
    }

    private hear(e: Entry): void {
        if (e.event === 'reset') {
            this.emit('reset', { at: Number(e.data.at) || Date.now() })
            return
        }
        const k = typeof e.data.job === 'string' ? this.known.get(e.data.job) : undefined
        const held = k && e.event !== 'progress' ? this.held.get(k.task.promptId) : undefined
        if (held) {
            held.push(e)
        } else if (k) {
            this.apply(k, e)
        } else if (e.event !== 'progress') {
            this.early.push(e)
            if (this.early.length > EARLY) this.early.shift()
        }
    }

    /** certain: names of servers are known as they are now. */
    private apply(k: Known, e: Entry, certain = false): void {
        const before = k.task.serverName
        if (!take(k, e)) return
        const { task } = k
        if (task.serverName !== before) {
            task.executionServer = this.serverUrl(task.serverName)
            if (task.serverName !== null && !certain) this.askFor(task.promptId) // names may have come to mean another server
        }
        if (k.ended) this.unfollow(task.promptId)
        if (e.event !== 'progress') this.saveSoon()
        const what = { promptId: task.promptId, at: Number(e.data.at) || 0, task }
        if (e.event === 'progress') {
            this.emit('progress', { ...what, value: Number(e.data.value) || 0, max: Number(e.data.max) || 0, node: (e.data.node as string | null) ?? null })
        } else if (e.event === 'output') {
            const output = k.outputs[k.outputs.length - 1] as JobOutput
            this.emit('output', { ...what, output, url: this.absolute(output.url) })
        } else {
            this.emit(e.event === 'end' ? 'end' : 'state', {
                ...what, state: task.state, server: task.serverName, attempt: task.attempt,
                error: (e.data.error as { code: string; message: string } | undefined) ?? null,
            })
        }
    }

    absolute(url: string): string {
        return new URL(url.replace(/^\/(?!\/)/, ''), this.base).href
    }

    /* --- following --- */

    private follow(id: string): void {
        if (!this.following.has(id)) this.following.set(id, this.feed.want())
        void this.poll()
    }

    private unfollow(id: string): void {
        this.following.get(id)?.()
        this.following.delete(id)
    }

    private heardUp(up: boolean): void {
        this.emit(up ? 'connected' : 'disconnected', { url: this.base })
        if (up) for (const id of this.unsure) this.catchUp(id)
        else void this.poll()
    }

    /** While there is no stream, tasks are asked for. */
    private async poll(): Promise<void> {
        if (this.polling) return
        this.polling = true
        for (let n = 0; this.following.size > 0 && !this.stop.signal.aborted; n++) {
            await pause(backoff(n, WITHOUT, WITHOUT * 4), this.stop.signal)
            if (this.feed.isUp) break
            for (const id of this.following.keys()) this.askFor(id)
            await this.lane
        }
        this.polling = false
    }

    private catchUpAll(): void {
        for (const id of this.following.keys()) this.catchUp(id)
    }

    /** Entries may have been missed: those that come from now on wait until it is known which. */
    private catchUp(id: string): void {
        this.held.set(id, [...(this.held.get(id) ?? [])])
        this.askFor(id)
    }

    /** One at a time: there may be many. */
    private askFor(id: string): void {
        if (this.asking.has(id)) return
        this.asking.add(id)
        this.lane = this.lane.then(async () => {
            const held = this.held.get(id)
            this.asking.delete(id)
            await this.ask(id).catch(() => {}) // closed
            if (held === undefined || this.held.get(id) !== held) return // or it was asked too early
            this.held.delete(id)
            for (const e of held) this.hear(e)
        })
    }

    private async ask(id: string, signal = this.stop.signal): Promise<void> {
        const answer = await ask(`${this.base}mux/v1/jobs/${id}`, {}, signal)
        const k = this.known.get(id)
        if (!k) return
        this.unsure.delete(id)
        if (answer?.status === 404 && isObject(answer.body)) {
            this.unfollow(id) // there is no such job, or it is no longer kept
        } else if (answer?.status === 200 && isObject(answer.body) && answer.body.id === id) {
            this.learn(k, answer.body)
        } else {
            this.unsure.add(id)
        }
    }

    private learn(k: Known, record: Record<string, unknown>): void {
        const server = isObject(record.server) ? record.server : null
        if (server && typeof server.name === 'string' && typeof server.url === 'string') this.names.set(server.name, server.url)
        for (const e of entriesOf(record)) this.apply(k, e, true)
        if (server && server.name === k.task.serverName && typeof server.url === 'string' && k.task.executionServer !== server.url) {
            k.task.executionServer = server.url
            this.saveSoon()
        }
    }

    /** Its end has been heard of: the task, if it is one of this window's, is to say so too. */
    async settle(id: string, signal: AbortSignal): Promise<void> {
        const k = this.known.get(id)
        if (!k || (k.ended && (k.task.serverName === null || k.task.executionServer !== null))) return
        await this.ask(id, anyOf([signal], WITHOUT)).catch(() => {}) // stopped: it is heard of later
    }

    /* --- keeping --- */

    private key(): string {
        return `comfymux.tasks ${this.base} ${this.windowId}`
    }

    private saveSoon(): void {
        this.saving ??= setTimeout(() => this.save(), 50)
    }

    private save(): void {
        clearTimeout(this.saving)
        this.saving = undefined
        try {
            session()?.setItem(this.key(), toText(this.known))
        } catch {
            for (const id of prune(this.known, this.known.size / 2)) this.unfollow(id) // no room: better fewer than none
        }
    }
}

const shared = new Map<string, { tasks: Tasks; users: number }>()

/** Those of a window are the same for everybody in the page. name: of the window, before its id is certain. */
export function tasksOf(base: string, name: string, window: () => string): { tasks: Tasks; release: () => void } {
    const key = `${base} ${name}`
    const s = shared.get(key) ?? { tasks: new Tasks(base, window), users: 0 }
    shared.set(key, s)
    s.users++
    return {
        tasks: s.tasks,
        release: () => {
            if (--s.users > 0) return
            shared.delete(key)
            s.tasks.close()
        },
    }
}
