// Which window is bound to which server: the table that debugMultiWindowServers() of the JavaScript module prints.
import type { WindowRow } from './api'
import { usePolled } from './poll'
import { href } from './router'
import { Ago, Badge, Empty, Trouble } from './ui'
import { shortId } from './words'

const EVERY = 3000
const JOBS_SHOWN = 8

function Jobs({ row }: { row: WindowRow }) {
    const shown = row.jobs.slice(0, JOBS_SHOWN)
    if (shown.length === 0) return <p class="dim">No job yet.</p>
    return (
        <ul class="window-jobs">
            {shown.map((j) => (
                <li key={j.id}>
                    <Badge state={j.state} />
                    <a class="mono" href={href('jobs', j.id)} title={j.id}>
                        {shortId(j.id)}
                    </a>
                    <span class="window-server">
                        {j.server ? <a href={href('servers', j.server)}>{j.server}</a> : <span class="dim">no server yet</span>}
                    </span>
                    <span class="dim">
                        <Ago at={j.registered_at} />
                    </span>
                </li>
            ))}
            {row.jobs.length > shown.length && (
                <li>
                    {row.window_id === null ? (
                        <span class="dim">and {row.jobs.length - shown.length} before</span>
                    ) : (
                        <a href={href('jobs', '', { window: row.window_id })}>and {row.jobs.length - shown.length} before</a>
                    )}
                </li>
            )}
        </ul>
    )
}

function Window({ row }: { row: WindowRow }) {
    return (
        <article class="window" aria-label={row.window_id === null ? 'Jobs without a window' : `Window ${row.window_id}`}>
            <header>
                <h2>{row.window_id === null ? 'Without a window' : <a href={href('jobs', '', { window: row.window_id })}>{row.window_id}</a>}</h2>
                <p class="dim">
                    {row.window_id === null ? 'These clients name no window. ' : ''}Last heard from <Ago at={row.last_seen} />
                </p>
                {row.client_ids.length > 0 && (
                    <ul class="window-clients" aria-label="Its client ids">
                        {row.client_ids.map((c) => (
                            <li key={c}>
                                <a class="mono" href={href('jobs', '', { client: c })}>
                                    {c}
                                </a>
                            </li>
                        ))}
                    </ul>
                )}
            </header>
            <Jobs row={row} />
        </article>
    )
}

export function Windows() {
    const polled = usePolled<{ windows: WindowRow[] }>('/mux/v1/windows', EVERY, (e) => e.kind === 'state' || e.kind === 'end' || e.kind === 'reset')
    const windows = polled.value.value?.windows
    return (
        <div class="page">
            <header class="window-intro">
                <h1>Windows</h1>
                <p>
                    A window is one tab of a browser, or one script, that says who it is with its jobs. Each job is bound to one server, and its
                    pictures come from that server alone, whatever other windows do.
                </p>
            </header>
            {!windows && polled.error.value && <Trouble error={polled.error.value} what="The windows could not be read." />}
            {windows?.length === 0 && (
                <Empty>
                    No window has been heard of yet. A page names its own in the header <code>X-Comfymux-Window</code>; the module{' '}
                    <code>/mux/client.js</code> does so by itself.
                </Empty>
            )}
            <div class="windows">
                {windows?.map((w) => (
                    <Window key={w.window_id ?? ''} row={w} />
                ))}
            </div>
        </div>
    )
}
