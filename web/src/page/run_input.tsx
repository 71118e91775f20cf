// One input of a node: the control that its kind asks for, what is wrong with it, and the way back.
import { signal } from '@preact/signals'
import { useEffect, useRef } from 'preact/hooks'
import { ChoiceControl, type Control } from './run_choice'
import type { Input } from './run_model'
import { field, loaded, type Field } from './run_state'
import { FileInput } from './run_upload'
import { intText } from './run_numbers'
import { advice, randomSeed, stepped, type SeedMode } from './run_values'

export const inputId = (node: string, name: string): string => `in ${node} ${name}`.replace(/\s/g, '_')
/** A node that somebody wants to see: the form shows it, wherever it is. */
export const sought = signal<string | null>(null)

export const nodeId = (node: string): string => `node ${node}`.replace(/\s/g, '_')

export function InputRow({ node, input }: { node: string; input: Input }) {
    const f = field(node, input.name)
    if (input.kind === 'link') return <LinkRow input={input} />
    if (input.kind === 'socket' || !f)
        return (
            <div class="in is-wire">
                <span class="in-name">{input.name}</span>
                <span class="in-warn">nothing is connected{input.type ? ` (${input.type})` : ''}</span>
            </div>
        )
    if (input.original === undefined && f.text.value === null) return <MissingRow field={f} />
    return <ValueRow node={node} field={f} />
}

function ValueRow({ node, field: f }: { node: string; field: Field }) {
    const i = f.input
    const id = inputId(node, i.name)
    const edited = f.text.value !== null
    const fault = f.fault ?? f.refused.value
    const note = fault === null ? advice(i, f.value) : null
    const about = range(i)
    const described = [fault !== null && `${id}-fault`, note !== null && `${id}-note`, (i.tooltip || about) && `${id}-about`].filter(Boolean).join(' ')
    const c: Control = { id, field: f, described: described || undefined, wrong: fault !== null }
    return (
        <div class={`in is-${i.seed ? 'seed' : i.kind}${edited ? ' is-edited' : ''}${fault !== null ? ' is-wrong' : ''}`}>
            <div class="in-head">
                <label class="in-name" for={id} title={i.tooltip || undefined}>
                    {i.name}
                </label>
                {about && <small class="dim">{about}</small>}
                {edited && (
                    <button
                        type="button"
                        class="plain in-reset"
                        aria-label={i.original === undefined ? `Take ${i.name} out again` : `Reset ${i.name}`}
                        title={i.original === undefined ? 'Take it out again' : 'Back to what the workflow said'}
                        onClick={() => {
                            f.reset()
                            document.getElementById(id)?.focus()
                        }}
                    >
                        ↺
                    </button>
                )}
            </div>
            <ControlFor c={c} />
            {i.seed && <SeedModes field={f} />}
            {fault !== null && (
                <p id={`${id}-fault`} class="in-fault">
                    {fault}
                </p>
            )}
            {note !== null && (
                <p id={`${id}-note`} class="in-warn">
                    {note}
                </p>
            )}
            {(i.tooltip || about) && (
                <span id={`${id}-about`} class="unseen">
                    {[i.tooltip, about].filter(Boolean).join(' ')}
                </span>
            )}
        </div>
    )
}

/** What numbers are taken; seeds take nearly all. */
function range(i: Input): string {
    if ((i.kind !== 'int' && i.kind !== 'number') || i.seed || i.color || i.min === null || i.max === null) return ''
    return i.max.length > 9 || i.min.length > 9 ? '' : `${i.min} to ${i.max}`
}

function ControlFor({ c }: { c: Control }) {
    switch (c.field.input.kind) {
        case 'int':
        case 'number':
            return <NumberControl c={c} />
        case 'bool':
            return <Check c={c} />
        case 'choice':
            return c.field.input.upload ? <FileInput c={c} /> : <ChoiceControl c={c} />
        case 'lines':
        case 'json':
            return <Lines c={c} />
        default:
            return <Line c={c} />
    }
}

// ---- numbers

function NumberControl({ c }: { c: Control }) {
    const i = c.field.input
    return (
        <span class="in-together">
            <input
                id={c.id}
                type="text"
                inputMode={i.kind === 'int' ? 'numeric' : 'decimal'}
                class="in-number"
                value={c.field.value}
                autocomplete="off"
                spellcheck={false}
                aria-invalid={c.wrong}
                aria-describedby={c.described}
                onInput={(e) => c.field.set(e.currentTarget.value)}
                onKeyDown={(e) => {
                    if (e.key !== 'ArrowUp' && e.key !== 'ArrowDown') return
                    const next = stepped(i, c.field.value, e.key === 'ArrowUp')
                    if (next === null) return
                    e.preventDefault()
                    c.field.set(next)
                }}
            />
            {i.seed && (
                <button
                    type="button"
                    aria-label={`Another ${i.name} by chance`}
                    title="Another by chance"
                    onClick={() => c.field.set(randomSeed(i))}
                >
                    ⚄
                </button>
            )}
            {i.color && <ColorControl c={c} />}
        </span>
    )
}

function ColorControl({ c }: { c: Control }) {
    const number = Number(intText(c.field.value) ?? 0)
    return (
        <input
            type="color"
            class="in-color"
            aria-label={`${c.field.input.name} as a colour`}
            value={`#${(number & 0xffffff).toString(16).padStart(6, '0')}`}
            onInput={(e) => c.field.set(String(parseInt(e.currentTarget.value.slice(1), 16)))}
        />
    )
}

const MODES: { name: SeedMode; title: string }[] = [
    { name: 'fixed', title: 'the same each time' },
    { name: 'random', title: 'by chance each time' },
    { name: 'increment', title: 'one more each time' },
]

function SeedModes({ field: f }: { field: Field }) {
    return (
        <select aria-label={`What ${f.input.name} does with each run`} value={f.mode.value} onChange={(e) => f.setMode(e.currentTarget.value as SeedMode)}>
            {MODES.map((m) => (
                <option key={m.name} value={m.name}>
                    {m.title}
                </option>
            ))}
        </select>
    )
}

// ---- the others

function Check({ c }: { c: Control }) {
    const on = c.field.value === 'true'
    return (
        <span class="check">
            <input
                id={c.id}
                type="checkbox"
                checked={on}
                aria-invalid={c.wrong}
                aria-describedby={c.described}
                onChange={(e) => c.field.set(String(e.currentTarget.checked))}
            />
            <span aria-hidden="true" class="dim">
                {on ? 'on' : 'off'}
            </span>
        </span>
    )
}

const ROWS_MAX = 14

function Lines({ c }: { c: Control }) {
    const text = c.field.value
    const box = useRef<HTMLTextAreaElement>(null)
    const lines = text.split('\n').reduce((n, l) => n + 1 + Math.floor(l.length / 60), 0)
    useEffect(() => {
        // what is set from elsewhere, and not typed
        if (box.current && box.current.value.replace(/\r/g, '') !== text.replace(/\r/g, '')) box.current.value = text
    }, [text])
    return (
        <textarea
            ref={box}
            id={c.id}
            rows={Math.min(Math.max(lines, c.field.input.kind === 'json' ? 1 : 3), ROWS_MAX)}
            defaultValue={text}
            class={c.field.input.kind === 'json' ? 'mono' : undefined}
            aria-invalid={c.wrong}
            aria-describedby={c.described}
            onInput={(e) => c.field.set(e.currentTarget.value)}
        />
    )
}

function Line({ c }: { c: Control }) {
    return (
        <input
            id={c.id}
            type="text"
            value={c.field.value}
            autocomplete="off"
            aria-invalid={c.wrong}
            aria-describedby={c.described}
            onInput={(e) => c.field.set(e.currentTarget.value)}
        />
    )
}

// ---- what has no value of its own

function LinkRow({ input }: { input: Input }) {
    const { node, output } = input.link!
    const there = loaded.value?.prompt.members.some(([id]) => id === node)
    return (
        <div class="in is-wire">
            <span class="in-name">{input.name}</span>
            {there ? (
                <button
                    type="button"
                    class="plain link"
                    aria-label={`${input.name} comes from node ${node}, ${output}. Go there`}
                    onClick={() => (sought.value = node)}
                >
                    from node {node}, {output}
                </button>
            ) : (
                <span class="in-warn">from node {node}, which is not in this workflow</span>
            )}
        </div>
    )
}

function MissingRow({ field: f }: { field: Field }) {
    return (
        <div class={`in is-wire${f.refused.value !== null ? ' is-wrong' : ''}`}>
            <span class="in-name">{f.input.name}</span>
            <span class="in-warn">is missing, and needed</span>
            <button type="button" onClick={() => add(f)}>
                Add<span class="unseen"> {f.input.name}</span>
            </button>
            {f.refused.value !== null && <p class="in-fault">{f.refused.value}</p>}
        </div>
    )
}

/** Puts an input in that the workflow did not say, with what the servers would take for it. */
export function add(f: Field): void {
    f.set(f.input.initial)
    requestAnimationFrame(() => document.getElementById(inputId(f.node, f.input.name))?.focus())
}
