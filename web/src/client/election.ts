/*  Which window reads the gateway's events for all of them.
 *
 *      start() ──> candidate ──nobody objects──> leader ──an older leader is heard──> follower
 *                     │    ^                                                              │
 *       a leader, or a v    └────── its leader is silent, or has left ── follower <───────┘
 *       smaller candidate is heard ──────────────────────────────────────────^
 *
 *  Only messages between windows are needed, so it works where a page is no secure context and has no Web Locks. A window
 *  that is suspended does not answer and is replaced; when it wakes up there are two leaders for a moment, and the older
 *  one stays.
 */
export type ElectionMessage =
    | { k: 'run'; from: string }
    | { k: 'lead'; from: string; since: number }
    | { k: 'quit'; from: string }

export interface ElectionHooks {
    post(m: ElectionMessage): void
    lead(): void
    follow(): void
}

export interface Clock {
    now(): number
    set(fn: () => void, ms: number): unknown
    clear(timer: unknown): void
}

export const realClock: Clock = {
    now: () => Date.now(),
    set: (fn, ms) => setTimeout(fn, ms),
    clear: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
}

const OBJECT = 150 // ms in which others object to a candidate
const SILENT = 10000 // ms without a sign of the leader, after which it is asked for one

export class Election {
    state: 'idle' | 'candidate' | 'follower' | 'leader' = 'idle'
    private since = 0
    private timer: unknown = null

    constructor(
        readonly id: string,
        private readonly hooks: ElectionHooks,
        private readonly clock: Clock = realClock,
        private readonly random: () => number = Math.random,
    ) {}

    start(): void {
        if (this.state === 'idle') this.run()
    }

    stop(): void {
        const leading = this.state === 'leader'
        this.wait(null, 0)
        this.state = 'idle'
        if (leading) this.hooks.post({ k: 'quit', from: this.id })
    }

    /** Something was heard from the leader. */
    alive(): void {
        if (this.state === 'follower') this.wait(() => this.run(), SILENT * (1 + this.random() / 2))
    }

    hear(m: ElectionMessage): void {
        if (this.state === 'idle' || m.from === this.id) return
        if (m.k === 'quit') {
            if (this.state === 'follower') this.wait(() => this.run(), this.random() * 50)
        } else if (m.k === 'run') {
            this.hearCandidate(m.from)
        } else if (this.state !== 'leader') {
            this.follow()
        } else if (m.since < this.since || (m.since === this.since && m.from < this.id)) {
            this.follow()
        } else {
            this.say()
        }
    }

    private hearCandidate(from: string): void {
        if (this.state === 'leader') {
            this.say()
        } else if (this.state === 'candidate') {
            if (from > this.id) this.hooks.post({ k: 'run', from: this.id })
            else this.follow(OBJECT * 4)
        } else {
            this.wait(() => this.run(), OBJECT * 4) // its leader is asked for: it answers at once, or there will be a new one
        }
    }

    private say(): void {
        this.hooks.post({ k: 'lead', from: this.id, since: this.since })
    }

    private run(): void {
        this.state = 'candidate'
        this.hooks.post({ k: 'run', from: this.id })
        this.wait(() => this.win(), OBJECT)
    }

    private win(): void {
        this.state = 'leader'
        this.since = this.clock.now()
        this.say()
        this.hooks.lead()
    }

    private follow(patience?: number): void {
        const led = this.state === 'leader'
        this.state = 'follower'
        if (patience === undefined) this.alive()
        else this.wait(() => this.run(), patience * (1 + this.random()))
        if (led) this.hooks.follow()
    }

    private wait(fn: (() => void) | null, ms: number): void {
        this.clock.clear(this.timer)
        this.timer = fn ? this.clock.set(fn, ms) : null
    }
}
