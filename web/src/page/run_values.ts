// What is typed into the form, checked and put into the workflow. What nobody has touched stays as it was written.
import { member, parse, withMember, type ObjectTree, type Tree } from './json_text'
import { shown, type Input } from './run_model'
import { add, compare, intText, numberText, onStep, random64, randomBetween } from './run_numbers'

export type Checked = { value: Tree } | { fault: string }

/** What a text means for an input, or why it means nothing. */
export function check(i: Input, text: string): Checked {
    switch (i.kind) {
        case 'int':
        case 'number': {
            const number = i.kind === 'int' ? intText(text) : numberText(text)
            if (number === null) return { fault: notANumber(i, text) }
            if (i.min !== null && compare(number, i.min) < 0) return { fault: `Too small: at least ${i.min}.` }
            if (i.max !== null && compare(number, i.max) > 0) return { fault: `Too large: at most ${i.max}.` }
            return { value: { type: 'number', text: number } }
        }
        case 'bool':
            return { value: { type: 'word', text: text === 'true' ? 'true' : 'false' } }
        case 'choice':
            return { value: i.choices.find((c) => c.text === text)?.value ?? { type: 'string', value: text } }
        case 'json': {
            const value = parse(text)
            return value ? { value } : { fault: 'This is no JSON.' }
        }
        default:
            return { value: { type: 'string', value: newlines(i, text) } }
    }
}

function notANumber(i: Input, text: string): string {
    if (text.trim() === '') return 'A number is needed here.'
    if (/^[+-]?\d+,\d+$/.test(text.trim())) return 'Write a point, not a comma.'
    if (i.kind === 'int' && numberText(text) !== null) return 'A whole number is needed here.'
    return i.kind === 'int' ? 'This is not a whole number.' : 'This is not a number.'
}

/** A text box knows one kind of line end; where all were of the other kind they stay so. */
function newlines(i: Input, text: string): string {
    const before = i.original?.type === 'string' ? i.original.value : ''
    return /\r\n/.test(before) && !/[^\r]\n/.test(before) ? text.replace(/\r?\n/g, '\r\n') : text
}

/** What is unusual and yet may be right: it does not keep anybody from running it. */
export function advice(i: Input, text: string): string | null {
    if (i.kind === 'choice' && !i.upload && text !== '' && !listed(i, text)) return 'No server lists this.'
    if ((i.kind === 'int' || i.kind === 'number') && !i.seed && i.step !== null) {
        const number = i.kind === 'int' ? intText(text) : numberText(text)
        if (number !== null && !onStep(number, stepsFrom(i), i.step)) return `Not in steps of ${i.step}: a node may round it.`
    }
    return null
}

/** The workflow's own value stands among the choices too, and is not a server's. */
function listed(i: Input, text: string): boolean {
    return i.choices.some((c) => c.text === text && c.value !== i.original)
}

/** Sizes count from 0 in eights though the least is 16; others count from their least. */
function stepsFrom(i: Input): string {
    return i.min !== null && i.step !== null && !onStep(i.min, '0', i.step) ? i.min : '0'
}

/** The value one step up or down, within its bounds; null if the text is no number. */
export function stepped(i: Input, text: string, up: boolean): string | null {
    const number = i.kind === 'int' ? intText(text) : numberText(text)
    if (number === null) return null
    const step = i.step !== null && Number(i.step) > 0 ? i.step : i.kind === 'int' ? '1' : '0.1'
    const next = add(number, up ? step : step.startsWith('-') ? step.slice(1) : `-${step}`)
    if (i.min !== null && compare(next, i.min) < 0) return i.min
    if (i.max !== null && compare(next, i.max) > 0) return i.max
    return next
}

// ---- seeds

/** What happens to a seed when several are run. */
export type SeedMode = 'fixed' | 'random' | 'increment'

// ComfyUI's own page makes seeds up to here. Larger ones run, but lose digits in programs that read them as JavaScript does.
const SEED_MAX = 1125899906842624n

export function randomSeed(i: Input, random: () => bigint = random64): string {
    const least = i.min === null ? 0n : BigInt(intText(i.min) ?? 0)
    const most = i.max === null ? SEED_MAX : BigInt(intText(i.max) ?? SEED_MAX)
    const from = least < 0n ? 0n : least
    return String(randomBetween(from, most < SEED_MAX ? most : SEED_MAX, random))
}

/** The seed of run k (0 is the first). */
export function seedOf(i: Input, text: string, mode: SeedMode, k: number, random: () => bigint = random64): string {
    if (mode === 'random') return randomSeed(i, random)
    const base = intText(text)
    if (mode === 'fixed' || base === null || k === 0) return text
    const least = BigInt(intText(i.min ?? '') ?? 0)
    const most = BigInt(intText(i.max ?? '') ?? 18446744073709551615n)
    const next = BigInt(base) + BigInt(k)
    return String(next > most ? least + (next - most - 1n) : next)
}

// ---- the workflow

/** Edited values by node and input. */
export type Edits = ReadonlyMap<string, ReadonlyMap<string, Tree>>

export function applyEdits(prompt: ObjectTree, edits: Edits): ObjectTree {
    return {
        type: 'object',
        members: prompt.members.map(([id, node]) => {
            const own = edits.get(id)
            if (!own?.size || node.type !== 'object') return [id, node]
            const before = member(node, 'inputs')
            let inputs: ObjectTree = before?.type === 'object' ? before : { type: 'object', members: [] }
            for (const [name, value] of own) inputs = withMember(inputs, name, value)
            return [id, withMember(node, 'inputs', inputs)]
        }),
    }
}

/** Whether a text in the form is the workflow's own value: then it is no edit, and its bytes stay. */
export function isOwn(i: Input, text: string): boolean {
    return i.original !== undefined && shown(i).replace(/\r\n/g, '\n') === text.replace(/\r\n/g, '\n')
}

/** The drawing goes along only while it says the same as the workflow: ComfyUI's page reads it first when a picture is
    dropped on it, and would show the values from before. */
export function extraFor(extra: ObjectTree | null, edited: boolean): ObjectTree | null {
    const info = member(extra ?? undefined, 'extra_pnginfo')
    if (!extra || !edited || info?.type !== 'object' || !member(info, 'workflow')) return extra
    return withMember(extra, 'extra_pnginfo', { type: 'object', members: info.members.filter(([k]) => k !== 'workflow') })
}

// ---- what a server says against it

export interface NodeErrors {
    [node: string]: { class_type?: string; errors?: { type?: string; message?: string; details?: string; extra_info?: { input_name?: unknown } | null }[] }
}

export interface Complaint {
    node: string
    input: string | null
    text: string
}

/** The node_errors of an answer, one by one; anything may stand there. */
export function complaints(node_errors: unknown): Complaint[] {
    if (node_errors === null || typeof node_errors !== 'object') return []
    const all: Complaint[] = []
    for (const [node, e] of Object.entries(node_errors as NodeErrors)) {
        if (!Array.isArray(e?.errors)) continue
        for (const one of e.errors) {
            const name = one?.extra_info?.input_name
            const input = typeof name === 'string' ? name : null
            const details = one?.details && one.details !== name ? String(one.details) : ''
            all.push({ node, input, text: `${one?.message ?? one?.type ?? 'It was refused'}${details ? `: ${details}` : ''}` })
        }
    }
    return all
}
