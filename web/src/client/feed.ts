/*  The gateway's events, for all windows of a browser that use this gateway, over one connection: browsers open at most six to
 *  one host, so a stream for each window would leave none for the rest once there are six windows. The window that
 *  leads reads, and tells the others over a BroadcastChannel. Where it ends another goes on after the entry that it has heard
 *  last, so nothing is missed. There is a stream only while some window has jobs under way. */
import { Election, type ElectionMessage } from './election'
import { type Entry, readStream } from './stream'
import { uuid } from './uuid'
import { backoff, pause } from './wait'

type Message =
    | ElectionMessage
    | { k: 'entry'; entry: Entry }
    | { k: 'is'; up: boolean; last: string | null } // how things stand
    | { k: 'gap' } // entries may have been missed

export interface FeedNews {
    entry(e: Entry): void
    /** Whether the stream is there. */
    up(up: boolean): void
    /** From now on nothing is missed; what has been before must be asked for. */
    gap(): void
}

const LINGER = 5000 // ms that the stream is kept for a window that may soon submit again
const SEEN = 1000

export class Feed {
    isUp = false
    private readonly listeners = new Set<FeedNews>()
    private readonly election: Election
    private readonly seen = new Set<string>()
    private channel: BroadcastChannel | null = null
    private wants = 0
    private lingering: ReturnType<typeof setTimeout> | undefined
    private running = false
    private fresh = true // this window has not asked yet how things stand since it began to listen
    private last: string | null = null
    private reading: AbortController | null = null

    constructor(private readonly base: string) {
        this.election = new Election(uuid(), {
            post: (m) => this.post(m),
            lead: () => this.lead(),
            follow: () => {
                this.stopReading()
                this.gap() // the other one may have told what was not heard here
            },
        })
        if (typeof addEventListener !== 'function') return
        // A page that is left may be kept, and come back; meanwhile another window reads.
        addEventListener('pagehide', () => this.end())
        addEventListener('pageshow', () => {
            if (this.wants > 0) this.begin()
        })
    }

    listen(news: FeedNews): () => void {
        this.listeners.add(news)
        return () => this.listeners.delete(news)
    }

    /** The stream is needed until what is given here is called. */
    want(): () => void {
        let wanted = true
        this.wants++
        clearTimeout(this.lingering)
        this.begin()
        return () => {
            if (!wanted) return
            wanted = false
            if (--this.wants === 0) this.lingering = setTimeout(() => this.end(), LINGER)
        }
    }

    private begin(): void {
        if (this.running) return
        this.running = true
        this.fresh = true
        if (typeof BroadcastChannel === 'function') {
            this.channel = new BroadcastChannel(`comfymux.events ${this.base}`)
            this.channel.onmessage = (e: MessageEvent<Message>) => this.hear(e.data)
        }
        this.election.start()
    }

    private end(): void {
        if (!this.running) return
        this.running = false
        this.election.stop()
        this.stopReading()
        this.channel?.close()
        this.channel = null
        this.last = null
        this.isUp = false
        this.seen.clear()
    }

    private post(m: Message): void {
        this.channel?.postMessage(m)
    }

    /* --- as one of the others --- */

    private hear(m: Message): void {
        if (m.k === 'run' || m.k === 'lead' || m.k === 'quit') {
            this.election.hear(m)
            if (m.k === 'run' && this.election.state === 'leader') this.post({ k: 'is', up: this.isUp, last: this.last })
            return
        }
        if (this.election.state === 'leader') return // two lead, for a moment
        this.election.alive()
        if (m.k === 'entry') {
            this.take(m.entry)
        } else if (m.k === 'is') {
            this.last = m.last ?? this.last
            this.setUp(m.up)
        } else {
            this.gap()
        }
    }

    /* --- as the one who reads --- */

    private lead(): void {
        this.reading = new AbortController()
        void this.read(this.reading.signal)
    }

    private stopReading(): void {
        this.reading?.abort()
        this.reading = null
    }

    private async read(signal: AbortSignal): Promise<void> {
        for (let failed = 0; !signal.aborted; ) {
            const whole = this.last !== null
            const wait = await readStream(this.base, this.last, signal, {
                open: () => {
                    failed = 0
                    this.fresh ||= !whole
                    this.tellUp(true)
                    if (!whole) this.post({ k: 'gap' })
                },
                entry: (entry) => {
                    if (signal.aborted) return
                    this.post({ k: 'entry', entry })
                    this.take(entry)
                    if (entry.event !== 'reset') return
                    this.post({ k: 'gap' })
                    this.gap()
                },
            })
            if (signal.aborted) return
            this.tellUp(false)
            await pause(Math.max(wait ?? 0, backoff(failed++)), signal, (wake) => {
                if (typeof addEventListener !== 'function') return () => {}
                addEventListener('online', wake)
                return () => removeEventListener('online', wake)
            })
        }
    }

    private tellUp(up: boolean): void {
        this.post({ k: 'is', up, last: this.last })
        this.setUp(up)
    }

    /* --- to this window --- */

    private take(e: Entry): void {
        if (e.id !== null) {
            if (this.seen.has(e.id)) return
            this.seen.add(e.id)
            if (this.seen.size > SEEN) this.seen.delete(this.seen.values().next().value!)
            this.last = e.id
        }
        for (const l of [...this.listeners]) l.entry(e)
    }

    private setUp(up: boolean): void {
        if (up !== this.isUp) {
            this.isUp = up
            for (const l of [...this.listeners]) l.up(up)
        }
        if (up && this.fresh) this.gap()
    }

    private gap(): void {
        this.fresh = false
        for (const l of [...this.listeners]) l.gap()
    }
}

const feeds = new Map<string, Feed>()

/** The one of this page and gateway. */
export function feedOf(base: string): Feed {
    let f = feeds.get(base)
    if (!f) feeds.set(base, (f = new Feed(base)))
    return f
}
