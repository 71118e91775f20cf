// A list of jobs, newest first, as the gateway's listing gives it page by page, kept true by events.
import { batch, signal, type Signal } from '@preact/signals'
import { ENDED, get, jobPath, type ApiError, type Job, type JobBrief, type State } from './api'
import { listen, type LiveEvent } from './live'

export interface Filter {
    state: State[]
    server: string
    window: string
    client: string
    kind: string
}
export const NO_FILTER: Filter = { state: [], server: '', window: '', client: '', kind: '' }

const PAGE = 200
const NEXT_PAGE = 500 // who scrolls on wants many
const HEAD = 100
const HEAD_PAGES = 10 // past that many new jobs at once the list begins anew
const PAUSE = 400 // ms between two looks at the head
const AGAIN = 3000 // ms until a page that could not be read is asked for again

function query(f: Filter): string {
    const q = new URLSearchParams({ view: 'brief' })
    if (f.state.length) q.set('state', f.state.join(','))
    if (f.server) q.set('server', f.server)
    if (f.window) q.set('window_id', f.window)
    if (f.client) q.set('client_id', f.client)
    if (f.kind) q.set('kind', f.kind)
    return q.toString()
}

interface Listing {
    jobs: JobBrief[]
    next: string | null
}

/** What a listing says now of a job that is known. It names the first outputs only: where all are known, they stay. */
function update(known: JobBrief, listed: JobBrief): JobBrief {
    const same = known.state === listed.state && known.attempt === listed.attempt
    return same && known.outputs.length > listed.outputs.length ? { ...listed, outputs: known.outputs } : listed
}

export class JobList {
    /** Newest first. A new array whenever jobs come or go; a job's own signal when it changes. */
    readonly jobs = signal<Signal<JobBrief>[]>([])
    readonly complete = signal(false)
    readonly loading = signal(false)
    readonly error = signal<ApiError | null>(null)

    private readonly byId = new Map<string, Signal<JobBrief>>()
    private readonly query: string
    private readonly stop: () => void
    private readonly abort = new AbortController()
    private readonly stale = new Set<string>()
    private next: string | null = null
    private headTimer = 0
    private headWanted = false
    private headBusy = false
    private staleTimer = 0
    private retryTimer = 0
    private turn = 0 // counts beginnings

    constructor(private readonly filter: Filter) {
        this.query = query(filter)
        this.stop = listen((e) => this.take(e))
        void this.more()
    }

    free(): void {
        this.stop()
        this.abort.abort()
        clearTimeout(this.headTimer)
        clearTimeout(this.staleTimer)
        clearTimeout(this.retryTimer)
    }

    /** The next page, if there is one. */
    async more(): Promise<void> {
        if (this.loading.value || this.complete.value) return
        const turn = this.turn
        clearTimeout(this.retryTimer)
        this.loading.value = true
        try {
            // A page can be empty and not the last: the gateway looks through a bounded number of jobs for a kind.
            for (let found = 0; found === 0 && !this.complete.peek(); ) {
                const from = this.next === null ? '' : `&after=${encodeURIComponent(this.next)}`
                const limit = this.next === null ? PAGE : NEXT_PAGE
                const got = await get<Listing>(`/mux/v1/jobs?${this.query}&limit=${limit}${from}`, this.abort.signal)
                if (turn !== this.turn) return // begun anew meanwhile
                found = got.jobs.length
                batch(() => {
                    this.next = got.next
                    this.complete.value = got.next === null
                    this.jobs.value = [...this.jobs.value, ...this.admit(got.jobs)]
                    this.error.value = null
                })
            }
        } catch (e) {
            if (this.abort.signal.aborted || turn !== this.turn) return
            this.error.value = e as ApiError
            this.retryTimer = window.setTimeout(() => void this.more(), AGAIN)
        } finally {
            if (turn === this.turn) this.loading.value = false
        }
    }

    /** The full record of a job that is in the list, with all its outputs. */
    async whole(id: string): Promise<void> {
        try {
            const job = await get<Job>(jobPath(id), this.abort.signal)
            const s = this.byId.get(id)
            if (s) s.value = job
        } catch {
            // it stays as it is
        }
    }

    /** Asks again for all that is shown. */
    restart(): void {
        this.turn++
        batch(() => {
            this.loading.value = false
            this.byId.clear()
            this.jobs.value = []
            this.next = null
            this.complete.value = false
        })
        void this.more()
    }

    /** Those not known yet, entered; those known, brought up to date. */
    private admit(jobs: JobBrief[]): Signal<JobBrief>[] {
        const fresh: Signal<JobBrief>[] = []
        for (const job of jobs) {
            const known = this.byId.get(job.id)
            if (known) {
                known.value = update(known.peek(), job)
                continue
            }
            const s = signal(job)
            this.byId.set(job.id, s)
            fresh.push(s)
        }
        return fresh
    }

    private take(e: LiveEvent): void {
        if (e.kind === 'reset') {
            this.restart()
            return
        }
        const s = this.byId.get(e.job)
        if (!s) {
            if ((e.kind === 'state' || e.kind === 'end') && this.wants(e.state)) this.lookAtHead()
            return
        }
        const job = s.peek()
        if (e.kind === 'progress') {
            s.value = { ...job, progress: { value: e.value, max: e.max, node: e.node } }
        } else if (e.kind === 'output') {
            this.refresh(e.job)
        } else {
            if (!this.wants(e.state)) {
                this.drop(e.job)
                return
            }
            s.value = {
                ...job,
                state: e.state,
                attempt: e.attempt,
                server: e.server ? { name: e.server, url: job.server?.name === e.server ? job.server.url : null } : null,
                started_at: job.started_at ?? (e.state === 'running' ? e.at : null),
                finished_at: ENDED.includes(e.state) ? e.at : null,
                error: e.error ?? (ENDED.includes(e.state) ? job.error : null),
                progress: e.state === 'running' ? job.progress : { value: 0, max: 0, node: null },
            }
            if (ENDED.includes(e.state)) this.refresh(e.job) // outputs, the error's words
        }
    }

    private wants(state: State): boolean {
        return this.filter.state.length === 0 || this.filter.state.includes(state)
    }

    private drop(id: string): void {
        this.byId.delete(id)
        this.jobs.value = this.jobs.value.filter((s) => s.peek().id !== id)
    }

    private lookAtHead(): void {
        this.headWanted = true
        if (this.headTimer || this.headBusy) return
        this.headTimer = window.setTimeout(() => {
            this.headTimer = 0
            void this.readHead()
        }, PAUSE)
    }

    private async readHead(): Promise<void> {
        this.headWanted = false
        this.headBusy = true
        try {
            let after = ''
            const fresh: Signal<JobBrief>[] = []
            for (let page = 0; ; page++) {
                const got = await get<Listing>(`/mux/v1/jobs?${this.query}&limit=${HEAD}${after}`, this.abort.signal)
                const known = got.jobs.filter((j) => this.byId.has(j.id)).length
                if (page === HEAD_PAGES) {
                    if (fresh.length === 0) return
                    this.restart()
                    return
                }
                fresh.push(...this.admit(got.jobs))
                if (known > 0 || got.next === null || this.jobs.peek().length === 0) break
                after = `&after=${encodeURIComponent(got.next)}`
            }
            if (fresh.length) this.putFirst(fresh)
        } catch {
            // the stream's loss is shown; it brings a reset or the next event
        } finally {
            this.headBusy = false
            if (this.headWanted && !this.abort.signal.aborted) this.lookAtHead()
        }
    }

    /** A filter by state finds jobs that are older than some that are shown. */
    private putFirst(fresh: Signal<JobBrief>[]): void {
        const old = this.jobs.peek()
        const newest = old[0]?.peek().created_at ?? 0
        const all = [...fresh, ...old]

        if (fresh.some((s) => s.peek().created_at < newest)) all.sort((a, b) => b.peek().created_at - a.peek().created_at)
        this.jobs.value = all
    }

    private refresh(id: string): void {
        this.stale.add(id)
        this.staleTimer ||= window.setTimeout(() => void this.readStale(), PAUSE / 2)
    }

    /** Few are asked for one by one; many at once are most likely the newest. */
    private async readStale(): Promise<void> {
        const ids = [...this.stale]
        this.stale.clear()
        this.staleTimer = 0
        try {
            if (ids.length > 8) {
                const got = await get<Listing>(`/mux/v1/jobs?${this.query}&limit=${PAGE}`, this.abort.signal)
                const seen = new Set(got.jobs.map((j) => j.id))
                for (const j of got.jobs) {
                    const s = this.byId.get(j.id)
                    if (s) s.value = update(s.peek(), j)
                }
                ids.splice(0, ids.length, ...ids.filter((id) => !seen.has(id)).slice(0, 64))
            }
            await Promise.all(
                ids.map(async (id) => {
                    const s = this.byId.get(id)
                    if (s) s.value = await get<Job>(jobPath(id), this.abort.signal)
                }),
            )
        } catch {
            // as above
        }
    }
}
