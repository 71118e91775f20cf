// The workflow in the Run view, what has been edited in it, and what the servers say of its classes. One for the page: it is
// there again when the view is. It outlasts a reload in sessionStorage.
import { batch, computed, signal, untracked } from '@preact/signals'
import { request, type ApiError } from './api'
import { member, parse, parseOrThrow, stringify, type ObjectTree, type Tree } from './json_text'
import { buildForm, classesOf, shown, type Input, type NodeForm } from './run_model'
import { check, isOwn, type Edits, type SeedMode } from './run_values'
import type { Workflow } from './run_workflow'

export interface Loaded extends Workflow {
    /** What it is called: a file's name, a job. */
    name: string
    /** The job that it was read from, or nothing. */
    job: string
}

/** One control. */
export class Field {
    /** What was typed; null: as the workflow says. */
    readonly text = signal<string | null>(null)
    readonly mode = signal<SeedMode>('fixed')
    /** What a server said against it. */
    readonly refused = signal<string | null>(null)

    constructor(
        readonly node: string,
        readonly input: Input,
    ) {}

    get key(): string {
        return fieldKey(this.node, this.input.name)
    }

    /** What the control shows. */
    get value(): string {
        return this.text.value ?? shown(this.input)
    }

    set(text: string): void {
        batch(() => {
            this.text.value = isOwn(this.input, text) ? null : text
            this.refused.value = null
        })
        saveSoon()
    }

    reset(): void {
        batch(() => {
            this.text.value = null
            this.refused.value = null
        })
        saveSoon()
    }

    setMode(mode: SeedMode): void {
        this.mode.value = mode
        saveSoon()
    }

    /** What is wrong with what was typed. Values that came with the workflow are the server's to judge. */
    get fault(): string | null {
        const text = this.text.value
        if (text === null) return null
        const c = check(this.input, text)
        return 'fault' in c ? c.fault : null
    }
}

const fieldKey = (node: string, input: string): string => JSON.stringify([node, input])

export const loaded = signal<Loaded | null>(null)
export const count = signal(1)
/** Complaints about whole nodes. */
export const nodeRefusals = signal<ReadonlyMap<string, string[]>>(new Map())
export const infos = signal<ReadonlyMap<string, Tree | null>>(new Map())
export const infoError = signal<ApiError | null>(null)
/** What could be kept for a reload. */
export const kept = signal(true)
/** What was here before the last workflow came. */
export const previous = signal<Saved | null>(null)

let fields = new Map<string, Field>()

/** The form: it is built anew when a workflow comes, and when more is known of its classes. Fields outlast the latter. */
export const form = computed<NodeForm[]>(() => (loaded.value ? buildForm(loaded.value.prompt, infos.value) : []))

export const fieldsOfForm = computed<Field[]>(() => {
    const now = new Map<string, Field>()
    for (const n of form.value)
        for (const input of [...n.inputs, ...n.addable]) {
            if (input.kind === 'link' || input.kind === 'socket') continue
            const key = fieldKey(n.id, input.name)
            const old = fields.get(key)
            const fresh = new Field(n.id, input)
            untracked(() => {
                const keep = old ?? pending.get(key)
                if (!keep) return
                const text = keep instanceof Field ? keep.text.value : keep.text
                fresh.text.value = text !== null && isOwn(input, text) ? null : text
                fresh.mode.value = keep instanceof Field ? keep.mode.value : keep.mode
                if (keep instanceof Field) fresh.refused.value = keep.refused.value
            })
            now.set(key, fresh)
        }
    fields = now
    return [...now.values()]
})

export function field(node: string, input: string): Field | undefined {
    void fieldsOfForm.value
    return fields.get(fieldKey(node, input))
}

export const edited = computed<Field[]>(() => fieldsOfForm.value.filter((f) => f.text.value !== null))
/** Seeds that are to be sent: those of inputs that are there. */
export const seeds = computed<Field[]>(() =>
    fieldsOfForm.value.filter((f) => f.input.seed && (f.input.original !== undefined || f.text.value !== null)),
)

/** What was typed, by node and input. Faulty texts are left out. */
export function edits(): Map<string, Map<string, Tree>> {
    const all = new Map<string, Map<string, Tree>>()
    for (const f of edited.value) {
        const c = check(f.input, f.text.value!)
        if ('value' in c) put(all, f.node, f.input.name, c.value)
    }
    return all
}

export function put(all: Map<string, Map<string, Tree>>, node: string, input: string, value: Tree): void {
    const own = all.get(node) ?? new Map<string, Tree>()
    own.set(input, value)
    all.set(node, own)
}
export type { Edits }

export function resetAll(): void {
    batch(() => {
        for (const f of fieldsOfForm.value) f.reset()
        nodeRefusals.value = new Map()
    })
}

// ---- what comes and goes

export function load(w: Workflow, name: string, job = ''): void {
    const before = loaded.value && edited.value.length ? snapshot() : null
    batch(() => {
        previous.value = before
        begin({ ...w, name, job }, new Map())
    })
    saveSoon()
}

export function close(): void {
    batch(() => {
        previous.value = loaded.value && edited.value.length ? snapshot() : null
        loaded.value = null
        nodeRefusals.value = new Map()
    })
    saveSoon()
}

export function goBack(): void {
    const p = previous.value
    if (!p) return
    previous.value = null
    restore(p)
    saveSoon()
}

/** Values that wait for their controls: what they are is known when the servers have said it. */
let pending: Map<string, { text: string | null; mode: SeedMode }> = new Map()

function begin(what: Loaded, values: typeof pending): void {
    fields = new Map()
    pending = values
    batch(() => {
        loaded.value = what
        nodeRefusals.value = new Map()
    })
}

// ---- object_info: asked for by class, as all of it can be megabytes

const AT_ONCE = 4
let asking = false

export async function askForClasses(): Promise<void> {
    if (asking) return
    asking = true
    infoError.value = null
    try {
        for (;;) {
            const missing = loaded.value ? classesOf(loaded.value.prompt).filter((c) => !infos.value.has(c)) : []
            if (missing.length === 0) break
            const got = new Map<string, Tree | null>()
            const work = async () => {
                for (let c = missing.pop(); c !== undefined; c = missing.pop()) got.set(c, await askForClass(c))
            }
            await Promise.all(Array.from({ length: AT_ONCE }, work))
            infos.value = new Map([...infos.value, ...got])
        }
    } catch (e) {
        infoError.value = e as ApiError
    } finally {
        asking = false
    }
}

async function askForClass(name: string): Promise<Tree | null> {
    const text = await (await request(`/object_info/${encodeURIComponent(name)}`)).text()
    return member(parseOrThrow(text), name) ?? null
}

/** Asks again, for servers come and go. */
export function askAgain(): void {
    infos.value = new Map([...infos.value].filter(([, info]) => info !== null))
    void askForClasses()
}

// ---- outlasting a reload

export interface Saved {
    name: string
    job: string
    prompt: string
    extra: string | null
    values: [string, string | null, SeedMode][]
    count: number
}

const KEY = 'comfymux.run'
const SIZE_MAX = 2 * 1024 * 1024 // characters; all of a site shares some five million
let timer = 0

function snapshot(): Saved {
    const l = loaded.peek()!
    const values = fieldsOfForm
        .peek()
        .filter((f) => f.text.peek() !== null || f.mode.peek() !== 'fixed')
        .map((f): [string, string | null, SeedMode] => [f.key, f.text.peek(), f.mode.peek()])
    // What waits for its control must not be lost by a second reload.
    const there = new Set(values.map(([key]) => key))
    for (const [key, v] of pending) if (!fields.has(key) && !there.has(key)) values.push([key, v.text, v.mode])
    return { name: l.name, job: l.job, prompt: stringify(l.prompt), extra: l.extra && stringify(l.extra), values, count: count.peek() }
}

function save(): void {
    clearTimeout(timer)
    timer = 0
    try {
        if (!loaded.peek()) {
            sessionStorage.removeItem(KEY)
            kept.value = true
            return
        }
        const text = JSON.stringify(snapshot())
        if (text.length > SIZE_MAX) throw new RangeError()
        sessionStorage.setItem(KEY, text)
        kept.value = true
    } catch {
        kept.value = false
        try {
            sessionStorage.removeItem(KEY) // the one from before would come back in its place
        } catch {
            // nothing is kept in this browser
        }
    }
}

export function saveSoon(): void {
    timer ||= window.setTimeout(save, 300)
}

function restore(s: Saved): void {
    const prompt = parse(s.prompt)
    const extra = s.extra === null ? null : parse(s.extra)
    if (prompt?.type !== 'object') return
    count.value = s.count
    const values = new Map(s.values.map(([key, text, mode]) => [key, { text, mode }]))
    begin({ name: s.name, job: s.job, prompt, extra: extra as ObjectTree | null }, values)
}

let back = false

/** What was here before the reload. Not before it is looked at: the other views need nothing of it. */
export function comeBack(): void {
    if (back) return
    back = true
    try {
        const text = sessionStorage.getItem(KEY)
        if (text) restore(JSON.parse(text) as Saved)
    } catch {
        // from another version, or nothing is kept here
    }
}

window.addEventListener('pagehide', () => timer && save())
