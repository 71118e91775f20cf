// All jobs, newest first, as they happen.
import type { Signal } from '@preact/signals'
import { useEffect, useMemo } from 'preact/hooks'
import { ENDED, LIVE, type JobBrief, type State } from './api'
import { summary } from './app'
import { JobList, type Filter } from './jobs_list'
import { href, place, refine } from './router'
import { Ago, Badge, Bar, Empty, Thumb, Trouble } from './ui'
import { useMedia, Virtual } from './virtual'
import { duration, now, shortId, STATE_WORDS, story, took } from './words'

const GROUPS: { name: string; title: string; states: State[] }[] = [
    { name: '', title: 'All', states: [] },
    { name: 'live', title: 'Live', states: [...LIVE] },
    { name: 'done', title: 'Done', states: ['succeeded'] },
    { name: 'failed', title: 'Failed', states: ['failed', 'expired'] },
    { name: 'canceled', title: 'Canceled', states: ['canceled'] },
]

export function useJobList(f: Filter): JobList {
    const key = JSON.stringify(f)
    const list = useMemo(() => new JobList(f), [key])
    useEffect(() => () => list.free(), [list])
    return list
}

export function JobRow({ job }: { job: Signal<JobBrief> }) {
    const j = job.value
    const live = !ENDED.includes(j.state)
    const time = took(j, live ? now.value : 0)
    return (
        <a class="job" href={href('jobs', j.id)}>
            <Thumb output={j.outputs[0]} />
            <span class="job-what">
                <span class="job-line">
                    <Badge state={j.state} />
                    <span class="job-story">{story(j)}</span>
                </span>
                {live && j.state !== 'queued' ? (
                    <Bar progress={j.progress} label={`Progress of job ${j.id}`} />
                ) : (
                    <span class="job-id">
                        <span class="wide-only">{j.id}</span>
                        <span class="narrow-only">{shortId(j.id)}</span>
                        {j.error && <code>{j.error.code}</code>}
                    </span>
                )}
            </span>
            <span class="job-server">{j.server?.name ?? ''}</span>
            <span class="job-window">{j.window_id ?? ''}</span>
            <span class="job-time">
                <Ago at={j.created_at} />
                <small>{time === null ? '' : duration(time)}</small>
            </span>
        </a>
    )
}

export function Jobs() {
    const q = place.value.query
    const group = GROUPS.find((g) => g.name === q.get('show')) ?? GROUPS[0]!
    const filter: Filter = {
        state: group.states,
        server: q.get('server') ?? '',
        window: q.get('window') ?? '',
        client: q.get('client') ?? '',
        kind: '',
    }
    const list = useJobList(filter)
    const narrow = useMedia('(max-width: 720px)')
    const jobs = list.jobs.value
    const counts = summary.value?.jobs
    const set = (more: Record<string, string>) =>
        refine({ show: group.name, server: filter.server, window: filter.window, client: filter.client, ...more })

    return (
        <div class="page is-full">
            <div class="toolbar">
                <h1>Jobs</h1>
                <div class="choice" role="group" aria-label="Which jobs">
                    {GROUPS.map((g) => (
                        <button
                            type="button"
                            key={g.name}
                            aria-pressed={g === group}
                            onClick={() => set({ show: g.name })}
                            title={g.states.map((s) => STATE_WORDS[s]).join(', ')}
                        >
                            {g.title}
                            {counts && g.states.length > 0 && <small>{g.states.reduce((n, s) => n + (counts[s] ?? 0), 0)}</small>}
                        </button>
                    ))}
                </div>
                <div class="filters">
                    {(['server', 'window', 'client'] as const).map((key) => (
                        <label key={key}>
                            <span>{key}</span>
                            <input
                                type="search"
                                value={filter[key]}
                                placeholder="any"
                                spellcheck={false}
                                autocomplete="off"
                                onChange={(e) => set({ [key]: e.currentTarget.value.trim() })}
                            />
                        </label>
                    ))}
                </div>
            </div>
            {list.error.value && <Trouble error={list.error.value} what="The jobs could not be read." />}
            {jobs.length === 0 && list.complete.value ? (
                <Empty>
                    {group.name || filter.server || filter.window || filter.client ? (
                        'No job is like this.'
                    ) : (
                        <>
                            No job has come yet. Point a ComfyUI client here, or <a href={href('run')}>run a workflow</a>.
                        </>
                    )}
                </Empty>
            ) : (
                <Virtual
                    label="Jobs, newest first"
                    class="jobs"
                    items={jobs}
                    rowHeight={narrow ? 92 : 64}
                    keyOf={(j) => j.peek().id}
                    render={(j) => <JobRow job={j} />}
                    onEnd={() => void list.more()}
                />
            )}
        </div>
    )
}
