// One picture, large, with the others to the left and right of it, and what it was made from.
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import { get, jobPath, request, type Job, type JobBrief, type Output } from './api'
import { href } from './router'
import { Dialog } from './ui'
import { bytes, full } from './words'
import { workflowFacts, type Fact } from './workflow_facts'

export interface Shown {
    output: Output
    job: string
    /** Asked for if it is not here. */
    about?: JobBrief
}

const SWIPE = 50 // pixels, to the side

/** The record of a job and the facts of its workflow; both may fail to come. */
function useAbout(shown: Shown): { about: JobBrief | null; facts: Fact[] | null } {
    const [about, setAbout] = useState<JobBrief | null>(null)
    const [facts, setFacts] = useState<{ job: string; facts: Fact[] } | null>(null)
    const { job } = shown
    useEffect(() => {
        const abort = new AbortController()
        request(`${jobPath(job)}/workflow`, { signal: abort.signal })
            .then((r) => r.text())
            .then((text) => setFacts({ job, facts: workflowFacts(text) }))
            .catch(() => abort.signal.aborted || setFacts({ job, facts: [] }))
        if (!shown.about)
            get<Job>(jobPath(job), abort.signal)
                .then(setAbout)
                .catch(() => undefined)
        return () => abort.abort()
    }, [job])
    return { about: shown.about ?? (about?.id === job ? about : null), facts: facts?.job === job ? facts.facts : null }
}

function Picture({ output: o, onSize }: { output: Output; onSize: (text: string) => void }) {
    const [broken, setBroken] = useState(false)
    if (o.kind === 'video')
        return (
            <video
                class="lightbox-picture"
                src={o.url}
                controls
                autoplay
                loop
                aria-label={o.filename}
                onLoadedMetadata={(e) => onSize(`${e.currentTarget.videoWidth} × ${e.currentTarget.videoHeight}`)}
            />
        )
    if (broken) return <p class="lightbox-broken">This picture cannot be shown: it is no longer kept, or it is damaged.</p>
    return (
        <img
            class="lightbox-picture"
            src={o.url}
            alt={o.filename}
            draggable={false}
            onLoad={(e) => onSize(`${e.currentTarget.naturalWidth} × ${e.currentTarget.naturalHeight}`)}
            onError={() => setBroken(true)}
        />
    )
}

function About({ shown, size }: { shown: Shown; size: string }) {
    const { about, facts } = useAbout(shown)
    const rows: [string, string][] = [
        ['Server', about?.server?.name ?? '—'],
        ['Size', size ? `${size}, ${bytes(shown.output.size)}` : bytes(shown.output.size)],
        ['Made', about ? full(about.finished_at ?? about.created_at) : '—'],
    ]
    if (about?.window_id) rows.push(['Window', about.window_id])
    return (
        <dl class="lightbox-facts" aria-busy={facts === null}>
            {(facts ?? []).map((f, i) => (
                <div key={i}>
                    <dt>{f.name}</dt>
                    <dd>{f.value}</dd>
                </div>
            ))}
            {rows.map(([k, v]) => (
                <div key={k}>
                    <dt>{k}</dt>
                    <dd>{v}</dd>
                </div>
            ))}
        </dl>
    )
}

export function Lightbox(p: { items: Shown[]; index: number; onIndex: (i: number) => void; onClose: () => void }) {
    const shown = p.items[p.index]!
    const { output, job } = shown
    const [size, setSize] = useState({ url: '', text: '' })
    const start = useRef<{ x: number; y: number } | null>(null)
    const first = p.index === 0
    const last = p.index === p.items.length - 1
    const step = (by: number) => {
        const to = p.index + by
        if (to >= 0 && to < p.items.length) p.onIndex(to)
    }
    // At once, not after the next frame: keys come faster.
    useLayoutEffect(() => {
        const on = (e: KeyboardEvent) => {
            if (e.target instanceof HTMLMediaElement) return // they move within it
            if (e.key === 'ArrowLeft') step(-1)
            else if (e.key === 'ArrowRight') step(1)
        }
        window.addEventListener('keydown', on)
        return () => window.removeEventListener('keydown', on)
    })
    // The neighbours, so that they are there at once.
    useEffect(() => {
        for (const i of [p.index + 1, p.index - 1]) {
            const o = p.items[i]?.output
            if (o?.kind === 'image') new Image().src = o.url
        }
    }, [output.url])

    return (
        <Dialog title={output.filename} wide onClose={p.onClose}>
            <div class="lightbox">
                <div
                    class="lightbox-stage"
                    onPointerDown={(e) => {
                        start.current = e.pointerType === 'mouse' || !e.isPrimary ? null : { x: e.clientX, y: e.clientY }
                    }}
                    onPointerUp={(e) => {
                        const dx = start.current ? e.clientX - start.current.x : 0
                        const dy = start.current ? e.clientY - start.current.y : 0
                        start.current = null
                        if (Math.abs(dx) > SWIPE && Math.abs(dx) > 2 * Math.abs(dy)) step(dx < 0 ? 1 : -1)
                    }}
                    onPointerCancel={() => (start.current = null)}
                >
                    <Picture key={output.url} output={output} onSize={(text) => setSize({ url: output.url, text })} />
                    {/* Not `disabled` at the ends: the focus would be lost. */}
                    <button type="button" class="lightbox-step is-left" aria-label="Previous" aria-disabled={first} onClick={() => step(-1)}>
                        ‹
                    </button>
                    <button type="button" class="lightbox-step is-right" aria-label="Next" aria-disabled={last} onClick={() => step(1)}>
                        ›
                    </button>
                </div>
                <div class="lightbox-about">
                    <About shown={shown} size={size.url === output.url ? size.text : ''} />
                    <div class="buttons">
                        <a class="button" href={output.url} download={output.filename}>
                            Download
                        </a>
                        <a class="button" href={href('jobs', job)} onClick={p.onClose}>
                            Its job
                        </a>
                        <a class="button" href={href('run', '', { job })} onClick={p.onClose}>
                            Open in Run
                        </a>
                    </div>
                </div>
            </div>
        </Dialog>
    )
}
