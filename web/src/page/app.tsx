// The frame around the views.
import { signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { get, type Summary } from './api'
import { Gallery } from './gallery'
import { JobPage } from './job'
import { Jobs } from './jobs'
import { link, listen } from './live'
import { href, place } from './router'
import { Run } from './run'
import { ServerPage, Servers } from './servers'
import { Messages } from './ui'
import { Windows } from './windows'

const VIEWS = [
    { name: 'jobs', title: 'Jobs', sign: '☰' },
    { name: 'gallery', title: 'Gallery', sign: '▦' },
    { name: 'servers', title: 'Servers', sign: '⌸' },
    { name: 'windows', title: 'Windows', sign: '❐' },
    { name: 'run', title: 'Run', sign: '▷' },
]

export const summary = signal<Summary | null>(null)

/** Counts and health: asked for after something happened, and now and then. */
function useSummary(): void {
    useEffect(() => {
        let timer = 0
        let busy = false
        const look = async () => {
            timer = 0
            if (busy || document.visibilityState === 'hidden') return
            busy = true
            try {
                summary.value = await get<Summary>('/mux/v1/summary')
            } catch {
                // the stream says that it is lost
            } finally {
                busy = false
            }
        }
        const soon = () => {
            timer ||= window.setTimeout(() => void look(), 700)
        }
        const stop = listen((e) => e.kind !== 'progress' && e.kind !== 'output' && soon())
        const often = setInterval(soon, 10000)
        document.addEventListener('visibilitychange', soon)
        void look()
        return () => {
            stop()
            clearInterval(often)
            clearTimeout(timer)
            document.removeEventListener('visibilitychange', soon)
        }
    }, [])
}

const LINKS = {
    connecting: 'Connecting',
    live: 'Live',
    lost: 'The gateway cannot be reached; trying again',
    asleep: 'Paused',
}

function Health() {
    const s = summary.value
    const lost = link.value === 'lost'
    const waiting = s ? s.jobs.queued : 0
    const working = s ? s.jobs.dispatching + s.jobs.running + s.jobs.collecting : 0
    const up = s ? s.servers.up : 0
    const all = s ? Object.values(s.servers).reduce((a, b) => a + b, 0) : 0
    const bad = lost || (s !== null && !s.ready)
    return (
        <p class="health" role="status">
            <span class={`dot ${bad ? 'is-bad' : link.value === 'live' ? 'is-good' : ''}`} aria-hidden="true" />
            {lost || !s ? (
                <span>{LINKS[link.value]}</span>
            ) : s.ready ? (
                <span>
                    <b>{working}</b> at work, <b>{waiting}</b> waiting
                    <span class="wide-only">
                        , <b>{up}</b> of {all} servers up
                    </span>
                </span>
            ) : (
                <span>Not ready: {s.reason}</span>
            )}
        </p>
    )
}

const THEMES = ['auto', 'light', 'dark'] as const
type Theme = (typeof THEMES)[number]
const theme = signal<Theme>(THEMES.find((t) => t === localStorage.getItem('comfymux.theme')) ?? 'auto')

function applyTheme(t: Theme): void {
    if (t === 'auto') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = t
}
applyTheme(theme.value)

function ThemeButton() {
    const next = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!
    const words = { auto: 'as the system', light: 'light', dark: 'dark' }
    return (
        <button
            type="button"
            class="plain theme"
            aria-label={`Colours: ${words[theme.value]}. Change to ${words[next]}`}
            title={`Colours: ${words[theme.value]}`}
            onClick={() => {
                theme.value = next
                localStorage.setItem('comfymux.theme', next)
                applyTheme(next)
            }}
        >
            {{ auto: '◐', light: '☀', dark: '☾' }[theme.value]}
        </button>
    )
}

function View() {
    const { view, id } = place.value
    switch (view) {
        case 'jobs':
            return id ? <JobPage id={id} key={id} /> : <Jobs />
        case 'gallery':
            return <Gallery />
        case 'servers':
            return id ? <ServerPage name={id} key={id} /> : <Servers />
        case 'windows':
            return <Windows />
        case 'run':
            return <Run />
        default:
            return (
                <div class="page">
                    <h1>There is no such page</h1>
                    <p>
                        <a href={href('jobs')}>To the jobs</a>
                    </p>
                </div>
            )
    }
}

export function App() {
    useSummary()
    const main = useRef<HTMLElement>(null)
    const here = place.value
    const title = VIEWS.find((v) => v.name === here.view)?.title ?? 'comfymux'
    useEffect(() => {
        document.title = here.id ? `${here.id} · comfymux` : `${title} · comfymux`
    }, [title, here.id])
    return (
        <>
            <a
                class="skip"
                href={location.hash || '#/'}
                onClick={(e) => {
                    e.preventDefault()
                    main.current?.focus()
                }}
            >
                To the content
            </a>
            <header class="top">
                <a class="brand" href={href('jobs')}>
                    <img src="icon.svg" alt="" width="26" height="26" />
                    comfymux
                </a>
                <nav aria-label="Views">
                    {VIEWS.map((v) => (
                        <a key={v.name} href={href(v.name)} aria-current={here.view === v.name ? 'page' : undefined}>
                            <span class="sign" aria-hidden="true">
                                {v.sign}
                            </span>
                            {v.title}
                        </a>
                    ))}
                </nav>
                <Health />
                {summary.value?.frontend && (
                    <a class="wide-only" href="/">
                        ComfyUI
                    </a>
                )}
                <ThemeButton />
            </header>
            <main ref={main} tabIndex={-1}>
                <View />
            </main>
            <Messages />
        </>
    )
}
