// What the views share: badges, bars, pictures, buttons, messages, dialogs.
import { signal } from '@preact/signals'
import type { ComponentChildren } from 'preact'
import { useEffect, useId, useRef, useState } from 'preact/hooks'
import { thumb, type ApiError, type Output, type Progress, type Server, type State } from './api'
import { ago, full, now, STATE_WORDS } from './words'

export function Badge({ state }: { state: State | Server['state'] }) {
    return <span class={`badge is-${state}`}>{STATE_WORDS[state as State] ?? state}</span>
}

/** A bar for max > 0, one that only moves for a job at work whose node tells nothing. */
export function Bar({ progress, label }: { progress: Progress; label: string }) {
    if (progress.max <= 0) return <progress class="bar" aria-label={label} />
    return (
        <progress class="bar" max={progress.max} value={Math.min(progress.value, progress.max)} aria-label={label}>
            {`${progress.value} of ${progress.max}`}
        </progress>
    )
}

export function Ago({ at }: { at: number }) {
    return (
        <time dateTime={new Date(at).toISOString()} title={full(at)}>
            {ago(at, now.value)}
        </time>
    )
}

const KIND_SIGNS: Record<Output['kind'], string> = {
    image: '▦',
    video: '▶',
    audio: '♪',
    text: '¶',
    file: '⎘',
    latent: '⁝',
    '3d': '⬡',
    json: '{}',
}

/** A small picture of an output, or a sign of what it is. */
export function Thumb({ output, size = 128, alt = '' }: { output: Output | undefined; size?: 128 | 256 | 512; alt?: string }) {
    const [broken, setBroken] = useState('')
    if (!output) return <span class="thumb is-empty" aria-hidden="true" />
    if (output.kind !== 'image' || broken === output.url)
        return (
            <span class="thumb is-sign" role={alt ? 'img' : undefined} aria-label={alt || undefined} aria-hidden={alt ? undefined : true}>
                {KIND_SIGNS[output.kind]}
            </span>
        )
    return (
        <img class="thumb" src={thumb(output, size)} alt={alt} loading="lazy" decoding="async" onError={() => setBroken(output.url)} />
    )
}

// ---- messages

interface Message {
    key: number
    text: string
    bad: boolean
}
const messages = signal<Message[]>([])
let lastKey = 0

/** Says something at the edge of the page; screen readers hear it. */
export function say(text: string, bad = false): void {
    const m = { key: ++lastKey, text, bad }
    messages.value = [...messages.value.slice(-3), m]
    setTimeout(() => dismiss(m.key), bad ? 12000 : 5000)
}

function dismiss(key: number): void {
    messages.value = messages.value.filter((m) => m.key !== key)
}

export function Messages() {
    return (
        <div class="messages" role="status" aria-live="polite">
            {messages.value.map((m) => (
                <div key={m.key} class={m.bad ? 'message is-bad' : 'message'}>
                    <span>{m.text}</span>
                    <button type="button" class="plain" aria-label="Dismiss" onClick={() => dismiss(m.key)}>
                        ×
                    </button>
                </div>
            ))}
        </div>
    )
}

/** A button for something that the gateway does: off while it is at it; what fails is said. */
export function Action(props: {
    children: ComponentChildren
    run: () => Promise<string | void>
    class?: string
    disabled?: boolean
    label?: string
}) {
    const [busy, setBusy] = useState(false)
    return (
        <button
            type="button"
            class={props.class}
            disabled={busy || props.disabled}
            aria-label={props.label}
            onClick={() => {
                setBusy(true)
                props.run()
                    .then(
                        (text) => text && say(text),
                        (e: Error) => say(e.message, true),
                    )
                    .finally(() => setBusy(false))
            }}
        >
            {props.children}
        </button>
    )
}

export function Trouble({ error, what }: { error: ApiError; what: string }) {
    return (
        <div class="trouble" role="alert">
            <strong>{what}</strong> {error.message} <code>{error.code}</code>
        </div>
    )
}

export function Empty({ children }: { children: ComponentChildren }) {
    return <p class="empty">{children}</p>
}

/** A window in front of the page; Escape and its button close it. */
export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren; wide?: boolean }) {
    const ref = useRef<HTMLDialogElement>(null)
    const gone = useRef(false)
    const id = useId()
    useEffect(() => {
        const d = ref.current
        if (d && !d.open) d.showModal()
        return () => {
            gone.current = true // its event comes later
            d?.close()
        }
    }, [])
    return (
        <dialog
            ref={ref}
            class={props.wide ? 'dialog is-wide' : 'dialog'}
            aria-labelledby={id}
            onClose={() => gone.current || props.onClose()}
            onClick={(e) => e.target === ref.current && ref.current?.close()}
        >
            <header>
                <h2 id={id}>{props.title}</h2>
                <button type="button" class="plain" aria-label="Close" onClick={() => ref.current?.close()}>
                    ×
                </button>
            </header>
            {props.children}
        </dialog>
    )
}
