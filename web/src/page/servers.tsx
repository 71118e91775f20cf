// The fleet: how each server is, what it runs, how well it does, and what it can do that others cannot.
import { useComputed, useSignal } from '@preact/signals'
import { useEffect, useState } from 'preact/hooks'
import { get, serverPath, send, type ApiError, type Server, type ServerDetail } from './api'
import { JobRow, useJobList } from './jobs'
import { usePolled } from './poll'
import { href } from './router'
import { AddServer, RemoveServer } from './server_dialogs'
import { Action, Ago, Badge, Bar, Empty, Trouble } from './ui'
import { bytes, duration, now, shortId } from './words'

const EVERY = 3000
const DETAILS_EVERY = 15000
const DETAILS_MOST = 48 // servers whose details are asked for one by one
const LAST_JOBS = 12

const ORDER: Server['state'][] = ['up', 'draining', 'suspect', 'fenced', 'down']

function times(n: number): string {
    return n === 1 ? 'once' : `${n} times`
}

function count(n: number, one: string, many = `${one}s`): string {
    return `${n} ${n === 1 ? one : many}`
}

function speed(s: Server): string {
    return s.recent ? duration(s.recent.seconds_median * 1000) : '—'
}

function record(s: Server): string {
    const t = s.stats
    if (!t) return '—'
    return [
        `${t.successes} done`,
        `${t.failures} failed`,
        ...(t.fences ? [`fenced ${times(t.fences)}`] : []),
        ...(t.restarts ? [`restarted ${times(t.restarts)}`] : []),
    ].join(', ')
}

// ---- what runs there

function Running({ server: s }: { server: Server }) {
    const jobs = s.jobs ?? s.running.map((id) => ({ id, state: 'running' as const, progress: { value: 0, max: 0, node: null }, started_at: null }))
    // The server's own queue: whoever sent what stands there.
    const others = s.queue === null ? 0 : s.queue - jobs.length
    if (jobs.length === 0)
        return <p class="server-idle">{s.state === 'down' ? 'Runs nothing' : others > 0 ? `Busy with ${count(others, 'prompt')} of others` : 'Idle'}</p>
    return (
        <ul class="server-running">
            {jobs.map((j) => (
                <li key={j.id}>
                    <span class="server-job">
                        <a class="mono" href={href('jobs', j.id)}>
                            {shortId(j.id)}
                        </a>
                        <span class="dim">
                            {j.progress.max > 0 && `${j.progress.value} of ${j.progress.max}, `}
                            {j.started_at !== null && duration(now.value - j.started_at)}
                        </span>
                    </span>
                    <Bar progress={j.progress} label={`Progress of job ${j.id}`} />
                </li>
            ))}
            {others > 0 && <li class="dim">{count(others, 'prompt')} of others in its queue</li>}
        </ul>
    )
}

function Tags({ tags }: { tags: string[] }) {
    return (
        <>
            {tags.map((t) => (
                <span class="tag" key={t}>
                    {t}
                </span>
            ))}
        </>
    )
}

export function Controls({ server: s, changed }: { server: Server; changed: () => void }) {
    const [removing, setRemoving] = useState(false)
    const draining = s.state === 'draining'
    const act = async (what: 'drain' | 'resume') => {
        await send('POST', `${serverPath(s.name)}/${what}`)
        changed()
        return what === 'drain' ? `${s.name} gets no new jobs; what runs there ends as usual.` : `${s.name} gets jobs again.`
    }
    return (
        <div class="buttons">
            <Action run={() => act(draining ? 'resume' : 'drain')} label={`${draining ? 'Resume' : 'Drain'} ${s.name}`}>
                {draining ? 'Resume' : 'Drain'}
            </Action>
            <button type="button" aria-label={`Remove ${s.name}`} onClick={() => setRemoving(true)}>
                Remove
            </button>
            {removing && <RemoveServer name={s.name} onDone={changed} onClose={() => setRemoving(false)} />}
        </div>
    )
}

/** What sets it apart from the others, in few words; null if nothing does. */
function differs(d: ServerDetail | undefined): string | null {
    if (!d) return null
    const parts = []
    if (d.missing_nodes_count) parts.push(`lacks ${count(d.missing_nodes_count, 'node class', 'node classes')} that others have`)
    if (d.extra_nodes_count) parts.push(`alone has ${count(d.extra_nodes_count, 'node class', 'node classes')}`)
    return parts.length ? parts.join(', ') : null
}

function Card({ server: s, detail: d, changed }: { server: Server; detail: ServerDetail | undefined; changed: () => void }) {
    const rows: [string, preact.ComponentChildren][] = [
        ['Typical job', speed(s)],
        ['Attempts', record(s)],
        ['Last seen', s.last_seen ? <Ago at={s.last_seen} /> : 'never'],
        ['ComfyUI', s.version ? `${s.version}, ${s.nodes} nodes` : 'not known yet'],
    ]
    const other = differs(d)
    if (d?.models.length) rows.push(['Loaded last', d.models.slice(0, 3).join(', ')])
    return (
        <article class={`card server is-${s.state}`} aria-label={`Server ${s.name}`}>
            <header>
                <h2>
                    <a href={href('servers', s.name)}>{s.name}</a>
                </h2>
                <Badge state={s.state} />
            </header>
            <p class="server-url">{s.url}</p>
            {s.reason && <p class="server-reason">{s.reason}</p>}
            <Running server={s} />
            <dl class="facts">
                {rows.map(([k, v]) => (
                    <div key={k}>
                        <dt>{k}</dt>
                        <dd>{v}</dd>
                    </div>
                ))}
            </dl>
            {(other || s.tags.length > 0 || s.depth !== 1) && (
                <p class="server-notes">
                    {s.depth !== 1 && <span class="tag">depth {s.depth}</span>}
                    <Tags tags={s.tags} />
                    {other && <span>{other}</span>}
                </p>
            )}
            <Controls server={s} changed={changed} />
        </article>
    )
}

/** Details change seldom; asked for one after the other. */
function useDetails(servers: Server[] | undefined): Map<string, ServerDetail> {
    const details = useSignal(new Map<string, ServerDetail>())
    const names = (servers ?? []).slice(0, DETAILS_MOST).map((s) => s.name)
    // Also when one has come up, or has other nodes than before.
    const key = JSON.stringify((servers ?? []).map((s) => [s.name, s.state, s.version, s.nodes]))
    useEffect(() => {
        const abort = new AbortController()
        const look = async () => {
            if (document.visibilityState === 'hidden') return
            const found = new Map<string, ServerDetail>()
            for (const name of names) {
                try {
                    found.set(name, await get<ServerDetail>(serverPath(name), abort.signal))
                } catch {
                    if (abort.signal.aborted) return // else: the list says how it is
                }
            }
            details.value = found
        }
        const often = setInterval(() => void look(), DETAILS_EVERY)
        void look()
        return () => {
            abort.abort()
            clearInterval(often)
        }
    }, [key])
    return details.value
}

export function Servers() {
    const polled = usePolled<{ servers: Server[] }>('/mux/v1/servers', EVERY, (e) => e.kind === 'state' || e.kind === 'end' || e.kind === 'reset')
    const [adding, setAdding] = useState(false)
    const servers = polled.value.value?.servers
    const details = useDetails(servers)
    const states = useComputed(() => {
        const all = polled.value.value?.servers ?? []
        return ORDER.map((state): [Server['state'], number] => [state, all.filter((s) => s.state === state).length]).filter(([, n]) => n > 0)
    }).value

    return (
        <div class="page">
            <div class="toolbar">
                <h1>Servers</h1>
                <p class="dim">{states.map(([state, n]) => `${n} ${state}`).join(', ')}</p>
                <div class="toolbar-end">
                    <button type="button" class="is-main" onClick={() => setAdding(true)}>
                        Add a server
                    </button>
                </div>
            </div>
            {!servers && polled.error.value && <Trouble error={polled.error.value} what="The servers could not be read." />}
            {servers?.length === 0 && (
                <Empty>There is no server yet. Add the address of a ComfyUI, such as http://10.0.0.5:8188; jobs wait until one is up.</Empty>
            )}
            <div class="servers">
                {servers?.map((s) => (
                    <Card key={s.name} server={s} detail={details.get(s.name)} changed={polled.soon} />
                ))}
            </div>
            {adding && <AddServer onDone={polled.soon} onClose={() => setAdding(false)} />}
        </div>
    )
}

// ---- one of them

function Devices({ devices }: { devices: ServerDetail['devices'] }) {
    return (
        <section aria-labelledby="devices-title">
            <h2 id="devices-title">Devices</h2>
            {devices.length === 0 && <Empty>It has not told of any.</Empty>}
            {devices.map((d, i) => (
                <div class="device" key={i}>
                    <span>
                        {d.name} <span class="dim">{d.type}</span>
                    </span>
                    {d.vram_total > 0 && (
                        <>
                            <span class="dim">
                                {bytes(d.vram_total - d.vram_free)} of {bytes(d.vram_total)} in use
                            </span>
                            <Bar progress={{ value: d.vram_total - d.vram_free, max: d.vram_total, node: null }} label={`Memory in use on ${d.name}`} />
                        </>
                    )}
                </div>
            ))}
        </section>
    )
}

function Names({ id, title, names, total, none }: { id: string; title: string; names: string[]; total: number | null; none: string }) {
    return (
        <section aria-labelledby={id}>
            <h2 id={id}>
                {title} {total !== null && total > 0 && <span class="dim">{total}</span>}
            </h2>
            {names.length === 0 ? (
                <Empty>{none}</Empty>
            ) : (
                <p class="names">
                    {names.map((n) => (
                        <code key={n}>{n}</code>
                    ))}
                    {total !== null && total > names.length && <span class="dim">and {total - names.length} more</span>}
                </p>
            )}
        </section>
    )
}

function LastJobs({ name }: { name: string }) {
    const list = useJobList({ state: [], server: name, window: '', client: '', kind: '' })
    const jobs = list.jobs.value
    return (
        <section aria-labelledby="last-title">
            <h2 id="last-title">Its last jobs</h2>
            {list.error.value && <Trouble error={list.error.value} what="Its jobs could not be read." />}
            {jobs.length === 0 && list.complete.value && <Empty>It has had none.</Empty>}
            <ul class="last-jobs">
                {jobs.slice(0, LAST_JOBS).map((j) => (
                    <li key={j.peek().id}>
                        <JobRow job={j} />
                    </li>
                ))}
            </ul>
            {jobs.length > LAST_JOBS && (
                <p>
                    <a href={href('jobs', '', { server: name })}>All its jobs</a>
                </p>
            )}
        </section>
    )
}

export function ServerPage({ name }: { name: string }) {
    const polled = usePolled<ServerDetail>(serverPath(name), EVERY, (e) => e.kind === 'state' || e.kind === 'end' || e.kind === 'reset')
    const s = polled.value.value
    const gone: ApiError | null = polled.error.value?.status === 404 || !s ? polled.error.value : null

    if (!s || gone)
        return (
            <div class="page" aria-busy={!gone}>
                <Crumbs />
                <h1>Server {name}</h1>
                {gone && <Trouble error={gone} what={`Server ${name} cannot be shown.`} />}
            </div>
        )
    const v = s.versions
    const rows: [string, preact.ComponentChildren][] = [
        ['Address', s.url],
        ['Last seen', s.last_seen ? <Ago at={s.last_seen} /> : 'never'],
        ['Jobs at a time', String(s.depth)],
        ['Its whole queue', s.queue === null ? 'not known' : String(s.queue)],
        ['Tags', s.tags.length ? <Tags tags={s.tags} /> : 'none'],
        ['ComfyUI', [v.comfyui ?? s.version ?? 'not known', v.python && `Python ${v.python}`, v.pytorch && `PyTorch ${v.pytorch}`].filter(Boolean).join(', ')],
        ['Node classes', String(s.nodes)],
    ]
    const work: [string, string][] = [
        ['Typical job', s.recent ? `${speed(s)}, of the last ${s.recent.jobs}` : '—'],
        ['On average', s.recent ? duration(s.recent.seconds_mean * 1000) : '—'],
        ['Jobs done', String(s.stats?.successes ?? '—')],
        ['Failed there', String(s.stats?.failures ?? '—')],
        ['Times fenced', String(s.stats?.fences ?? '—')],
        ['Restarts seen', String(s.stats?.restarts ?? '—')],
    ]
    return (
        <div class="page">
            <header class="job-head">
                <Crumbs />
                <h1>Server {s.name}</h1>
                <p class="job-line">
                    <Badge state={s.state} />
                    <span>{s.reason ?? (s.state === 'up' ? 'It answers and takes jobs.' : '')}</span>
                </p>
                <Controls server={s} changed={polled.soon} />
            </header>
            <div class="two">
                <section aria-labelledby="now-title">
                    <h2 id="now-title">Now</h2>
                    <Running server={s} />
                </section>
                <Devices devices={s.devices} />
            </div>
            <div class="two">
                <FactList id="about-title" title="About it" rows={rows} />
                <FactList id="work-title" title="Its work" rows={work} />
            </div>
            <Names id="models-title" title="Models that its latest jobs loaded" names={s.models} total={s.models.length} none="None that is known of." />
            <div class="two">
                <Names id="missing-title" title="Node classes that others have and it lacks" names={s.missing_nodes} total={s.missing_nodes_count} none={s.missing_nodes_count === null ? 'There is nothing to compare it with.' : 'It lacks none.'} />
                <Names id="extra-title" title="Node classes that it alone has" names={s.extra_nodes} total={s.extra_nodes_count} none={s.extra_nodes_count === null ? 'There is nothing to compare it with.' : 'None.'} />
            </div>
            <LastJobs name={s.name} />
        </div>
    )
}

function Crumbs() {
    return (
        <p class="crumbs">
            <a href={href('servers')}>Servers</a>
        </p>
    )
}

function FactList({ id, title, rows }: { id: string; title: string; rows: [string, preact.ComponentChildren][] }) {
    return (
        <section aria-labelledby={id}>
            <h2 id={id}>{title}</h2>
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
