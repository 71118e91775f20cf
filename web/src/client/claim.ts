/*  The id of a browser window: kept in sessionStorage, so that it outlasts a reload, and claimed by a Web Lock, because a tab
 *  that is duplicated takes a copy of the storage along. Where there are no Web Locks (a page that is no secure context, as
 *  over plain http in a local network) the windows ask each other over a BroadcastChannel. */
import { uuid } from './uuid'
import { pause } from './wait'

export interface Claim {
    /** Before ready: what it will most likely be. */
    id: string
    /** The id is this window's own. */
    ready: Promise<void>
    /** Called when it has become so, with `id` as it is now. */
    moved: Set<() => void>
}

const MINE = 250 // ms in which another window says that an id is its own
const LEAVING = 1000 // ms that the document before this one may take to let go
const GONE = 3000 // ms after which a lock that nobody speaks for is another window's, which is suspended

type Message = { k: 'whose' | 'mine'; id: string; from: string }

/** Where it is kept. A frame of the same origin shares the storage of its window: each has a name of its own. */
function storageKey(): string {
    let path = ''
    try {
        for (let w: Window = window; w !== w.parent; w = w.parent) {
            let n = 0
            while (n < w.parent.length && w.parent[n] !== w) n++
            path = `.${n}${path}`
        }
    } catch {
        // then it shares its window's
    }
    return `comfymux.window${path}`
}

export function session(): Storage | null {
    try {
        return globalThis.sessionStorage ?? null
    } catch {
        return null // a sandboxed frame, or a browser that is told to keep nothing
    }
}

class Claimant {
    readonly from = uuid()
    private channel: BroadcastChannel | null = null
    private taken: (() => void) | null = null
    private asking: string | null = null
    private release: (() => void) | null = null

    constructor(public id: string) {}

    open(): void {
        if (typeof BroadcastChannel !== 'function') return
        this.channel = new BroadcastChannel('comfymux.windows')
        this.channel.onmessage = (e: MessageEvent<Message>) => {
            const m = e.data
            if (m.from === this.from) return
            if (m.k === 'mine' && m.id === this.asking) this.taken?.()
            if (m.k !== 'whose' || m.id !== this.id) return
            // Of two that ask at the same time the one with the smaller name has it.
            if (this.asking === null || this.from < m.from) this.channel?.postMessage({ k: 'mine', id: m.id, from: this.from })
            else this.taken?.()
        }
    }

    close(): void {
        this.channel?.close()
        this.channel = null
        this.release?.()
        this.release = null
    }

    /** Does another window speak for this id within ms? */
    private async isTaken(ms: number): Promise<boolean> {
        if (!this.channel) return false
        let taken = false
        this.asking = this.id
        this.channel.postMessage({ k: 'whose', id: this.id, from: this.from })
        await pause(ms, undefined, (wake) => {
            this.taken = () => {
                taken = true
                wake()
            }
            return () => {
                this.taken = null
                this.asking = null
            }
        })
        return taken
    }

    /** The lock is held until close(). false: not within the time that `until` takes. */
    private lock(until: Promise<unknown>): Promise<boolean> {
        return new Promise((resolve) => {
            const stop = new AbortController()
            void until.then(() => stop.abort())
            navigator.locks
                .request(`comfymux.window ${this.id}`, { signal: stop.signal }, () => {
                    resolve(true)
                    return new Promise<void>((done) => {
                        this.release = done
                    })
                })
                .catch((e: unknown) => resolve(!(e instanceof DOMException && e.name === 'AbortError'))) // no locks in this page: as good as none taken
        })
    }

    async isMine(): Promise<boolean> {
        if (!globalThis.navigator?.locks) {
            if (!(await this.isTaken(MINE))) return true
            await pause(LEAVING, undefined) // the document before this one may have answered
            return !(await this.isTaken(MINE))
        }
        const none = new AbortController()
        const patience = this.isTaken(GONE).then((taken) => (taken ? pause(LEAVING, none.signal) : undefined))
        const mine = await this.lock(patience)
        none.abort()
        this.taken?.()
        return mine
    }
}

async function claim(c: Claim, own: Claimant, key: string): Promise<void> {
    own.open()
    if (!(await own.isMine())) {
        own.id = c.id = uuid()
        await own.isMine() // nobody else has it; from now on it is locked
    }
    try {
        session()?.setItem(key, c.id)
    } catch {
        // full: a reload makes it another window
    }
    for (const fn of c.moved) fn()
}

/** This window's. A page that has the module twice has one id all the same. */
export function claimWindow(): Claim {
    const name = Symbol.for('comfymux.window')
    const all = globalThis as { [name]?: Claim }
    if (all[name]) return all[name]
    const key = typeof window === 'object' ? storageKey() : 'comfymux.window'
    const c: Claim = { id: session()?.getItem(key) ?? uuid(), ready: Promise.resolve(), moved: new Set() }
    const own = new Claimant(c.id)
    c.ready = claim(c, own, key)
    all[name] = c
    if (typeof addEventListener === 'function') {
        // The next document of this window must find the id free; when this one comes back, it is its again.
        addEventListener('pagehide', () => own.close())
        addEventListener('pageshow', (e) => {
            if (e.persisted) c.ready = claim(c, own, key)
        })
    }
    return c
}
