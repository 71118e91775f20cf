// Runs a workflow: bring it, set what it should do, submit it once or many times, and see what becomes of it.
import { useEffect, useMemo, useState } from 'preact/hooks'
import { claimWindow } from '../client/claim'
import { ENDED, get, jobPath, LIVE, send, type Job } from './api'
import { JobRow } from './jobs'
import { JobList, NO_FILTER } from './jobs_list'
import { pretty } from './json_text'
import { href, place, refine } from './router'
import { Form } from './run_form'
import { ChooseButton, Opener, PasteButton, refusal, useDrops, useJobWorkflow } from './run_open'
import { askForClasses, close, comeBack, count, edited, edits, form, goBack, kept, loaded, previous, resetAll, saveSoon, seeds } from './run_state'
import { busy, COUNT_MAX, faulty, notes, stop, submit, trouble, varies } from './run_submit'
import { applyEdits } from './run_values'
import { Action, Trouble } from './ui'

export function Run() {
    useState(comeBack)
    const job = place.value.query.get('job') ?? ''
    const reading = useJobWorkflow(job)
    const over = useDrops()
    useEffect(() => {
        if (loaded.value) void askForClasses()
    }, [loaded.value])
    return (
        <div class={`page run-page${over ? ' is-over' : ''}`}>
            <Head />
            {reading.error && <Trouble error={reading.error} what={`The workflow of job ${job} cannot be read.`} />}
            {refusal.value && <Refusal />}
            {reading.busy ? (
                <p class="dim" role="status">
                    Reading the workflow of job {job}…
                </p>
            ) : loaded.value ? (
                <div class="run-parts">
                    <div class="run-side">
                        <Submit />
                        <Runs />
                    </div>
                    <Form />
                </div>
            ) : (
                <>
                    <Opener />
                    <Runs />
                </>
            )}
        </div>
    )
}

/** The address names the job whose workflow is here, or none. */
function address(): void {
    refine({ job: loaded.value?.job ?? '' })
}

function Head() {
    const w = loaded.value
    const n = form.value.length
    const changes = edited.value.length
    return (
        <header class="run-head">
            <h1>Run{w && <span class="dim run-name"> {w.name}</span>}</h1>
            <span class="unseen" role="status">
                {w ? `${w.name} is open.` : ''}
            </span>
            {w && (
                <>
                    <p class="dim">
                        {n === 1 ? '1 node' : `${n} nodes`}, {changes === 0 ? 'nothing changed' : changes === 1 ? '1 change' : `${changes} changes`}
                        {w.job && (
                            <>
                                , of <a href={href('jobs', w.job)}>this job</a>
                            </>
                        )}
                    </p>
                    <div class="buttons">
                        <ChooseButton>Open…</ChooseButton>
                        <PasteButton />
                        <button type="button" onClick={download}>
                            Save<span class="unseen"> the workflow with its changes as a file</span>
                        </button>
                        <button type="button" disabled={changes === 0} onClick={resetAll}>
                            Undo all changes
                        </button>
                        <button
                            type="button"
                            onClick={() => {
                                close()
                                address()
                            }}
                        >
                            Close
                        </button>
                    </div>
                </>
            )}
            {previous.value && (
                <p>
                    <button
                        type="button"
                        class="plain link"
                        onClick={() => {
                            goBack()
                            address()
                        }}
                    >
                        Back to {previous.value.name}, with its changes
                    </button>
                </p>
            )}
            {!kept.value && <p class="in-warn">This workflow is too large to be kept by the browser: a reload of the page will lose it.</p>}
        </header>
    )
}

function Refusal() {
    const r = refusal.value!
    return (
        <div class="trouble" role="alert">
            <strong>{r.name}</strong> <span>{r.text}</span>{' '}
            <button type="button" class="plain" aria-label="Dismiss" onClick={() => (refusal.value = null)}>
                ×
            </button>
        </div>
    )
}

/** The workflow with its changes, to be run elsewhere. */
function download(): void {
    const w = loaded.value!
    const url = URL.createObjectURL(new Blob([pretty(applyEdits(w.prompt, edits())) + '\n'], { type: 'application/json' }))
    const a = document.createElement('a')
    a.href = url
    a.download = `${w.name.replace(/\.[a-z0-9]+$/i, '').replace(/[^\p{L}\p{N} _.-]+/gu, '_') || 'workflow'}.json`
    a.click()
    setTimeout(() => URL.revokeObjectURL(url), 60000)
}

function Submit() {
    const n = count.value
    const at = busy.value
    const valid = Number.isInteger(n) && n >= 1 && n <= COUNT_MAX
    return (
        <form
            class="submit card"
            aria-label="Run it"
            onSubmit={(e) => {
                e.preventDefault()
                if (valid) void submit(n)
            }}
        >
            <div class="submit-line">
                <label>
                    <span>Runs</span>
                    <input
                        type="number"
                        class="submit-count"
                        min={1}
                        max={COUNT_MAX}
                        step={1}
                        required
                        value={Number.isNaN(n) ? '' : n}
                        onInput={(e) => {
                            count.value = e.currentTarget.valueAsNumber
                            saveSoon()
                        }}
                    />
                </label>
                {at ? (
                    <button type="button" onClick={stop}>
                        Stop submitting ({at.done} of {at.of})
                    </button>
                ) : (
                    <button type="submit" class="is-main">
                        {n > 1 && valid ? `Run ${n} times` : 'Run'}
                    </button>
                )}
            </div>
            {n > 1 && !varies.value && (
                <p class="in-warn">
                    All {valid ? n : ''} will be the same:{' '}
                    {seeds.value.length ? 'no seed changes from run to run. See “by chance each time” at a seed.' : 'this workflow has no seed.'}
                </p>
            )}
            {faulty.value.length > 0 && (
                <p class="in-fault" role="alert">
                    {faulty.value.length === 1 ? '1 input has' : `${faulty.value.length} inputs have`} a value that cannot be sent.
                </p>
            )}
            {trouble.value && (
                <div class="trouble" role="alert">
                    <strong>{trouble.value.title}</strong> {trouble.value.text} <code>{trouble.value.code}</code>
                </div>
            )}
        </form>
    )
}

const SHOWN = 12

/** The jobs of this window, as they happen: they were submitted under its id. */
function Runs() {
    const [id, setId] = useState('')
    useEffect(() => {
        let here = true
        const me = claimWindow()
        void me.ready.then(() => here && setId(me.id))
        return () => {
            here = false
        }
    }, [])
    return id ? <RunsOf client={id} /> : null
}

function RunsOf({ client }: { client: string }) {
    const list = useMemo(() => new JobList({ ...NO_FILTER, client }), [client])
    useEffect(() => () => list.free(), [list])
    const jobs = list.jobs.value
    const live = jobs.filter((j) => !ENDED.includes(j.value.state))
    if (list.error.value) return <Trouble error={list.error.value} what="The jobs of this window could not be read." />
    if (jobs.length === 0) return null
    return (
        <section class="runs" aria-labelledby="runs-title">
            <div class="runs-head">
                <h2 id="runs-title">Runs of this window</h2>
                {live.length > 0 && (
                    <Action class="is-danger" run={() => cancelAll(client)}>
                        Cancel all
                    </Action>
                )}
            </div>
            <ul class="runs-list">
                {jobs.slice(0, SHOWN).map((j) => (
                    <li key={j.peek().id}>
                        <JobRow job={j} />
                        {notes.value.get(j.peek().id) && <p class="run-note mono dim">{notes.value.get(j.peek().id)}</p>}
                    </li>
                ))}
            </ul>
            {jobs.length > 3 && (
                <p>
                    <a href={href('jobs', '', { client })}>All of them</a>
                </p>
            )}
        </section>
    )
}

const AT_ONCE = 4

/** All of this window that have not ended, also those that are not shown; what is being submitted is stopped too. */
async function cancelAll(client: string): Promise<string> {
    const query = new URLSearchParams({ client_id: client, state: LIVE.join(','), limit: '1000' })
    let canceled = 0
    stop()
    for (let all = 1; all > 0; ) {
        const ids = (await get<{ jobs: { id: string }[] }>(`/mux/v1/jobs?${query}`)).jobs.map((j) => j.id)
        const before = canceled
        const work = async () => {
            for (let id = ids.shift(); id !== undefined; id = ids.shift())
                if ((await send<Job>('POST', `${jobPath(id)}/cancel`)).state === 'canceled') canceled++
        }
        await Promise.all(Array.from({ length: AT_ONCE }, work))
        all = canceled - before
    }
    return canceled === 1 ? '1 job is canceled.' : `${canceled} jobs are canceled.`
}
