// One job: what happens, what came of it, what was asked for.
import { signal, useSignal } from '@preact/signals'
import { useEffect, useMemo, useState } from 'preact/hooks'
import { ENDED, get, jobPath, request, send, type ApiError, type Job, type LogLine } from './api'
import { listen } from './live'
import { Outputs } from './outputs'
import { go, href } from './router'
import { Action, Ago, Badge, Bar, Empty, Trouble } from './ui'
import { duration, moment, now, STATE_WORDS, story, took } from './words'
import { WorkflowView } from './workflow_view'

class JobWatch {
    readonly job = signal<Job | null>(null)
    readonly log = signal<{ lines: LogLine[]; complete: boolean } | null>(null)
    readonly error = signal<ApiError | null>(null)
    private readonly abort = new AbortController()
    private readonly stop: () => void
    private readonly poll: number
    private timer = 0
    private again = false
    private busy = false

    constructor(private readonly id: string) {
        this.stop = listen((e) => {
            if (e.kind === 'reset') this.soon()
            else if (e.job !== id) return
            else if (e.kind === 'progress') {
                const j = this.job.peek()
                if (j) this.job.value = { ...j, progress: { value: e.value, max: e.max, node: e.node } }
            } else this.soon()
        })
        // Its place in the queue changes with other jobs' events.
        this.poll = window.setInterval(() => this.job.peek()?.state === 'queued' && this.soon(), 3000)
        void this.read()
    }

    free(): void {
        this.stop()
        this.abort.abort()
        clearTimeout(this.timer)
        clearInterval(this.poll)
    }

    soon(): void {
        if (this.busy) this.again = true
        else this.timer ||= window.setTimeout(() => void this.read(), 100)
    }

    private async read(): Promise<void> {
        this.timer = 0
        this.again = false
        this.busy = true
        try {
            this.job.value = await get<Job>(jobPath(this.id), this.abort.signal)
            this.error.value = null
            this.log.value = await get<{ lines: LogLine[]; complete: boolean }>(`${jobPath(this.id)}/log`, this.abort.signal)
        } catch (e) {
            if (!this.abort.signal.aborted && !this.job.peek()) this.error.value = e as ApiError
        } finally {
            this.busy = false
            if (this.again && !this.abort.signal.aborted) this.soon()
        }
    }
}

export function JobPage({ id }: { id: string }) {
    const watch = useMemo(() => new JobWatch(id), [id])
    useEffect(() => () => watch.free(), [watch])
    const j = watch.job.value

    if (watch.error.value)
        return (
            <div class="page">
                <h1>Job</h1>
                <Trouble error={watch.error.value} what={`Job ${id} cannot be shown.`} />
                <p>
                    <a href={href('jobs')}>To the jobs</a>
                </p>
            </div>
        )
    if (!j)
        return (
            <div class="page" aria-busy="true">
                <h1>Job</h1>
            </div>
        )
    return (
        <div class="page job-page">
            <Head job={j} />
            {j.error && <Fault job={j} />}
            <section aria-labelledby="outputs-title">
                <h2 id="outputs-title">Outputs</h2>
                {j.outputs.length ? (
                    <Outputs outputs={j.outputs} job={j.id} />
                ) : (
                    <Empty>{ENDED.includes(j.state) ? 'It has none.' : 'None yet.'}</Empty>
                )}
            </section>
            <div class="two">
                <Timeline job={j} />
                <Facts job={j} />
            </div>
            <Log watch={watch} />
            <Workflow id={j.id} />
        </div>
    )
}

function Head({ job: j }: { job: Job }) {
    const live = !ENDED.includes(j.state)
    const time = took(j, live ? now.value : 0)
    return (
        <header class="job-head">
            <p class="crumbs">
                <a href={href('jobs')}>Jobs</a>
            </p>
            <h1>
                Job <span class="mono">{j.id}</span>
            </h1>
            <p class="job-line">
                <Badge state={j.state} />
                {!j.error && <span>{story(j)}</span>}
                {j.server && (
                    <span>
                        on <a href={href('servers', j.server.name)}>{j.server.name}</a>
                    </span>
                )}
                {time !== null && <span class="dim">{duration(time)}</span>}
            </p>
            {live && j.state !== 'queued' && <Bar progress={j.progress} label="Progress of the node that runs" />}
            <div class="buttons">
                {live && (
                    <Action
                        class="is-danger"
                        run={async () => {
                            const r = await send<Job>('POST', `${jobPath(j.id)}/cancel`)
                            return r.state === 'canceled' ? 'The job is canceled.' : `It had ended before: ${STATE_WORDS[r.state]}.`
                        }}
                    >
                        Cancel
                    </Action>
                )}
                {(j.state === 'failed' || j.state === 'expired') && (
                    <Action
                        run={async () => {
                            const r = await send<Job>('POST', `${jobPath(j.id)}/retry`)
                            go('jobs', r.id)
                            return 'It runs again, as a new job.'
                        }}
                    >
                        Run again
                    </Action>
                )}
                <a class="button" href={href('run', '', { job: j.id })}>
                    Open in Run
                </a>
            </div>
        </header>
    )
}

function Fault({ job: j }: { job: Job }) {
    const e = j.error!
    const detail = e.detail === null || e.detail === undefined ? '' : typeof e.detail === 'string' ? e.detail : JSON.stringify(e.detail, null, 2)
    return (
        <div class="trouble" role="alert">
            <strong>{e.message}</strong> <code>{e.code}</code>
            <p class="dim">
                {e.server ? `On ${e.server}` : 'Before a server was chosen'}
                {e.attempt ? `, attempt ${e.attempt}` : ''}
            </p>
            {detail && (
                <details>
                    <summary>What the server said</summary>
                    <pre tabIndex={0}>{detail}</pre>
                </details>
            )}
        </div>
    )
}

function Timeline({ job: j }: { job: Job }) {
    const first = j.timeline[0]?.at ?? j.created_at
    return (
        <section aria-labelledby="timeline-title">
            <h2 id="timeline-title">Timeline</h2>
            <ol class="timeline">
                {j.timeline.map((t, i) => (
                    <li key={i} class={`is-${t.state}`}>
                        <span class="mono dim" title={moment(t.at)}>
                            {i === 0 ? moment(t.at) : `+${duration(t.at - first)}`}
                        </span>
                        <b>{STATE_WORDS[t.state]}</b>
                        <span>{t.note ?? ''}</span>
                    </li>
                ))}
            </ol>
            {j.attempts.length > 0 && (
                <>
                    <h3>Attempts</h3>
                    <ol class="attempts">
                        {j.attempts.map((a, i) => (
                            <li key={i}>
                                <b>{a.server ?? 'no server'}</b>
                                <span class="dim">
                                    {a.started_at === null ? '' : a.ended_at === null ? 'at work' : duration(a.ended_at - a.started_at)}
                                </span>
                                {a.error && (
                                    <span>
                                        {a.error.message} <code>{a.error.code}</code>
                                    </span>
                                )}
                            </li>
                        ))}
                    </ol>
                </>
            )}
        </section>
    )
}

function Facts({ job: j }: { job: Job }) {
    const rows: [string, preact.ComponentChildren][] = [
        ['Server', j.server ? <a href={href('servers', j.server.name)}>{j.server.name}</a> : 'none yet'],
        ['Its address', j.server?.url ?? '—'],
        ['Window', j.window_id ? <a href={href('jobs', '', { window: j.window_id })}>{j.window_id}</a> : 'none'],
        ['Client', j.client_id ? <a href={href('jobs', '', { client: j.client_id })}>{j.client_id}</a> : 'none'],
        ['Accepted', <Ago at={j.created_at} />],
        ['Started', j.started_at === null ? '—' : moment(j.started_at)],
        ['Ended', j.finished_at === null ? '—' : moment(j.finished_at)],
        ['Attempts', String(j.attempt)],
    ]
    if (j.queue_position !== null) rows.push(['Place in the queue', String(j.queue_position + 1)])
    if (j.retry_of) rows.push(['Runs again what was', <a href={href('jobs', j.retry_of)}>{j.retry_of}</a>])
    return (
        <section aria-labelledby="facts-title">
            <h2 id="facts-title">About it</h2>
            <dl class="facts">
                {rows.map(([k, v]) => (
                    <div key={k}>
                        <dt>{k}</dt>
                        <dd>{v}</dd>
                    </div>
                ))}
            </dl>
        </section>
    )
}

function Log({ watch }: { watch: JobWatch }) {
    const log = watch.log.value
    return (
        <section aria-labelledby="log-title">
            <h2 id="log-title">Log</h2>
            {!log || log.lines.length === 0 ? (
                <Empty>The gateway no longer holds log lines of this job; its log file does.</Empty>
            ) : (
                <>
                    {!log.complete && <p class="dim">Its first lines are no longer held here; the gateway's log has them.</p>}
                    <pre class="log" tabIndex={0} aria-label="Log lines of this job">
                        {log.lines.map((l, i) => (
                            <span key={i} class={`log-line is-${l.level}`}>
                                <span class="dim">{moment(l.at)}</span> {l.text}
                                {'\n'}
                            </span>
                        ))}
                    </pre>
                </>
            )}
        </section>
    )
}

/** Read when it is opened: workflows can be large. */
function Workflow({ id }: { id: string }) {
    const text = useSignal<string | null>(null)
    const error = useSignal<ApiError | null>(null)
    const [open, setOpen] = useState(false)
    useEffect(() => {
        if (!open || text.value !== null) return
        request(`${jobPath(id)}/workflow`)
            .then((r) => r.text())
            .then(
                (t) => (text.value = t),
                (e: ApiError) => (error.value = e),
            )
    }, [open])
    return (
        <section aria-labelledby="workflow-title">
            <h2 id="workflow-title">Workflow</h2>
            <div class="buttons">
                <button type="button" aria-expanded={open} onClick={() => setOpen(!open)}>
                    {open ? 'Hide' : 'Show'}
                </button>
                <a class="button" href={`${jobPath(id)}/workflow?download=1`} download={`${id}.json`}>
                    Download
                </a>
            </div>
            {open && error.value && <Trouble error={error.value} what="The workflow cannot be shown." />}
            {open && text.value !== null && <WorkflowView text={text.value} />}
        </section>
    )
}
