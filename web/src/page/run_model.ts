// The form of a workflow: its nodes with what can be set, from the workflow and from what the servers say of its classes
// (object_info). Plain data; nothing here knows what has been edited.
import { member, parse, stringify, textOf, type ObjectTree, type Tree } from './json_text'

/** How a value is shown and read again. `link`: it comes from another node; `socket`: it should, and nothing is connected. */
export type Kind = 'int' | 'number' | 'text' | 'lines' | 'bool' | 'choice' | 'json' | 'link' | 'socket'

export interface Choice {
    text: string
    value: Tree
}

export interface Input {
    name: string
    kind: Kind
    /** As the servers call it: INT, STRING, MODEL …; empty if they do not say. */
    type: string
    required: boolean
    /** What the workflow says; undefined if it says nothing. */
    original: Tree | undefined
    /** What a new input begins with. */
    initial: string
    tooltip: string
    min: string | null
    max: string | null
    step: string | null
    choices: Choice[]
    upload: 'image' | 'video' | 'audio' | 'file' | null
    /** The folder whose files are listed. */
    folder: string
    seed: boolean
    color: boolean
    link: { node: string; output: string } | null
}

export type Group = 'prompt' | 'files' | 'sampling' | 'size' | 'models' | 'other' | 'links'

export const GROUPS: { name: Group; title: string }[] = [
    { name: 'prompt', title: 'Prompts' },
    { name: 'files', title: 'Files' },
    { name: 'sampling', title: 'Sampling' },
    { name: 'size', title: 'Size' },
    { name: 'models', title: 'Models' },
    { name: 'other', title: 'Other' },
    { name: 'links', title: 'Nothing to set' },
]

export interface NodeForm {
    id: string
    cls: string
    title: string
    description: string
    /** false: no server has this class; null: not asked yet. */
    known: boolean | null
    group: Group
    inputs: Input[]
    /** Optional ones that the workflow does not say. */
    addable: Input[]
    /** Inputs of other nodes that it is connected to: "positive of KSampler". */
    feeds: string[]
}

/** What the servers say of a class; null: no server has it. */
export type Infos = ReadonlyMap<string, Tree | null>

export function buildForm(prompt: ObjectTree, infos: Infos): NodeForm[] {
    const nodes = prompt.members.filter(([, n]) => n.type === 'object').map(([id, n]) => buildNode(id, n, infos))
    const byId = new Map(nodes.map((n) => [n.id, n]))
    for (const n of nodes)
        for (const i of n.inputs) {
            const from = i.link && byId.get(i.link.node)
            if (!i.link) continue
            if (from) from.feeds.push(`${i.name} of ${n.title}`)
            i.link.output = outputName(from ? infos.get(from.cls) : undefined, i.link.output)
        }
    return nodes
}

/** Which classes a workflow uses. */
export function classesOf(prompt: ObjectTree): string[] {
    return [...new Set(prompt.members.map(([, n]) => textOf(member(n, 'class_type'))).filter((c) => c !== ''))]
}

function outputName(info: Tree | null | undefined, index: string): string {
    const names = member(info ?? undefined, 'output_name')
    const name = names?.type === 'array' ? textOf(names.items[Number(index)]) : ''
    return name || `output ${index}`
}

function buildNode(id: string, node: Tree, infos: Infos): NodeForm {
    const cls = textOf(member(node, 'class_type'))
    const info = infos.get(cls)
    const given = membersOf(member(node, 'inputs'))
    const inputs: Input[] = []
    const addable: Input[] = []
    const seen = new Set<string>()

    for (const { name, spec, required } of specsOf(info ?? undefined)) {
        const original = given.get(name)
        const input = buildInput(name, spec, required, original)
        seen.add(name)
        if (original !== undefined || required) inputs.push(input)
        else if (input.kind !== 'socket') addable.push(input)
    }
    for (const [name, value] of given) if (!seen.has(name)) inputs.push(buildInput(name, undefined, false, value))
    inputs.sort((a, b) => Number(isWire(a)) - Number(isWire(b)))
    return {
        id,
        cls,
        title: textOf(member(member(node, '_meta'), 'title')) || textOf(member(info ?? undefined, 'display_name')) || cls,
        description: textOf(member(info ?? undefined, 'description')),
        known: info === undefined ? null : info !== null,
        group: groupOf(cls, inputs),
        inputs,
        addable,
        feeds: [],
    }
}

const isWire = (i: Input): boolean => i.kind === 'link' || i.kind === 'socket'
const membersOf = (t: Tree | undefined): Map<string, Tree> => new Map(t?.type === 'object' ? t.members : [])

interface Spec {
    name: string
    spec: Tree
    required: boolean
}

/** Required ones first, each part in the order that the servers say. */
function specsOf(info: Tree | undefined): Spec[] {
    const specs: Spec[] = []
    for (const part of ['required', 'optional']) {
        const inputs = membersOf(member(member(info, 'input'), part))
        const order = member(member(info, 'input_order'), part)
        const names = order?.type === 'array' ? order.items.map(textOf) : []
        for (const name of new Set([...names, ...inputs.keys()])) {
            const spec = inputs.get(name)
            if (spec) specs.push({ name, spec, required: part === 'required' })
        }
    }
    return specs
}

/** As ComfyUI tells a link from a list: two items, a text and a number. */
export function linkOf(t: Tree | undefined): { node: string; output: string } | null {
    if (t?.type !== 'array' || t.items.length !== 2) return null
    const [node, output] = t.items
    return node!.type === 'string' && output!.type === 'number' ? { node: node!.value, output: output!.text } : null
}

const isTrue = (t: Tree | undefined): boolean => t?.type === 'word' && t.text === 'true'
const numberOf = (t: Tree | undefined): string | null => (t?.type === 'number' ? t.text : null)

function buildInput(name: string, spec: Tree | undefined, required: boolean, original: Tree | undefined): Input {
    const type = spec?.type === 'array' ? spec.items[0] : undefined
    const options = spec?.type === 'array' && spec.items[1]?.type === 'object' ? spec.items[1] : undefined
    const link = linkOf(original)
    const choices = choicesOf(type, options)
    const typeName = type?.type === 'array' ? 'COMBO' : textOf(type)
    const upload = (['image', 'video', 'audio', 'file'] as const).find((u) => isTrue(member(options, `${u}_upload`))) ?? null
    const kind: Kind = link ? 'link' : kindOf(name, typeName, options, choices, upload, original)
    const first = member(options, 'default')
    return {
        name,
        kind,
        type: typeName,
        required,
        original,
        initial: initialOf(kind, first, choices, member(options, 'min')),
        tooltip: textOf(member(options, 'tooltip')),
        min: numberOf(member(options, 'min')),
        max: numberOf(member(options, 'max')),
        step: numberOf(member(options, 'step')),
        choices: withOwn(kind, choices, original),
        upload: kind === 'choice' ? upload : null,
        folder: textOf(member(options, 'image_folder')) || 'input',
        seed: kind === 'int' && (name === 'seed' || name === 'noise_seed' || isSet(member(options, 'control_after_generate'))),
        color: kind === 'int' && textOf(member(options, 'display')) === 'color',
        link,
    }
}

const isSet = (t: Tree | undefined): boolean => t !== undefined && !(t.type === 'word' && t.text !== 'true')

/** Both ways to write a list of choices: the list in the place of the type, and COMBO with options. */
function choicesOf(type: Tree | undefined, options: ObjectTree | undefined): Choice[] {
    const list = type?.type === 'array' ? type : member(options, 'options')
    return list?.type === 'array' ? list.items.map((value) => ({ text: textOf(value), value })) : []
}

/** What the workflow says can be chosen, also when no server lists it. */
function withOwn(kind: Kind, choices: Choice[], original: Tree | undefined): Choice[] {
    if (kind !== 'choice' || original === undefined || choices.some((c) => c.text === textOf(original))) return choices
    return [{ text: textOf(original), value: original }, ...choices]
}

const SCALAR = new Set(['string', 'number', 'word'])

function kindOf(
    name: string,
    type: string,
    options: ObjectTree | undefined,
    choices: Choice[],
    upload: Input['upload'],
    original: Tree | undefined,
): Kind {
    if (original && !SCALAR.has(original.type)) return 'json'
    switch (type) {
        case 'INT':
            return 'int'
        case 'FLOAT':
            return 'number'
        case 'BOOLEAN':
            return 'bool'
        case 'STRING':
            return isTrue(member(options, 'multiline')) || textOf(original).includes('\n') ? 'lines' : 'text'
        case 'COMBO':
            if (isTrue(member(options, 'multiselect'))) return 'json'
            return choices.length > 0 || upload ? 'choice' : 'text'
    }
    return original === undefined ? 'socket' : kindByValue(name, original)
}

/** For what the servers do not describe: as it is written. */
function kindByValue(name: string, value: Tree): Kind {
    switch (value.type) {
        case 'number':
            return /(^|_)seed$/.test(name) && /^-?\d+$/.test(value.text) ? 'int' : 'number'
        case 'string':
            return value.value.length > 60 || value.value.includes('\n') ? 'lines' : 'text'
        case 'word':
            return value.text === 'null' ? 'json' : 'bool'
        default:
            return 'json'
    }
}

function initialOf(kind: Kind, first: Tree | undefined, choices: Choice[], min: Tree | undefined): string {
    if (first !== undefined) {
        const text = kind === 'json' ? stringify(first) : textOf(first)
        return kind === 'int' ? text.replace(/\.0+$/, '') : text // some nodes begin whole numbers with 1.0
    }
    switch (kind) {
        case 'int':
        case 'number':
            return textOf(min) || '0'
        case 'bool':
            return 'false'
        case 'choice':
            return choices[0]?.text ?? ''
        case 'json':
            return 'null'
        default:
            return ''
    }
}

const SAMPLING = new Set(['seed', 'noise_seed', 'steps', 'cfg', 'sampler_name', 'scheduler', 'denoise', 'guidance'])

function groupOf(cls: string, inputs: Input[]): Group {
    const own = inputs.filter((i) => !isWire(i))
    if (own.length === 0) return 'links'
    if (own.some((i) => i.upload)) return 'files'
    if (own.some((i) => i.kind === 'lines' || ((i.name === 'text' || i.name === 'prompt') && i.kind === 'text'))) return 'prompt'
    if (own.some((i) => i.seed || SAMPLING.has(i.name))) return 'sampling'
    if (own.some((i) => i.name === 'width') && own.some((i) => i.name === 'height' || i.name === 'batch_size')) return 'size'
    if (/loader/i.test(cls) || own.some((i) => i.kind === 'choice' && /\.(safetensors|ckpt|pt|pth|gguf|sft|bin|onnx)$/i.test(i.choices[0]?.text ?? '')))
        return 'models'
    return 'other'
}

/** Whether a node is meant by what somebody looks for. */
export function matches(n: NodeForm, words: string): boolean {
    const all = [n.id, n.cls, n.title, ...n.inputs.flatMap((i) => [i.name, textOf(i.original)])].join('\n').toLowerCase()
    return words
        .toLowerCase()
        .split(/\s+/)
        .every((w) => all.includes(w))
}

/** Python's idea of what is true: that is how a server reads what is no true or false. */
export function truth(t: Tree | undefined): boolean {
    if (t === undefined) return false
    if (t.type === 'word') return t.text === 'true'
    if (t.type === 'number') return Number(t.text) !== 0
    if (t.type === 'string') return t.value !== ''
    return t.type === 'array' ? t.items.length > 0 : t.members.length > 0
}

/** What a control shows for the workflow's own value. */
export function shown(i: Input): string {
    if (i.original === undefined) return ''
    if (i.kind === 'bool') return String(truth(i.original))
    return i.kind === 'json' ? stringify(i.original) : textOf(i.original)
}

/** A small workflow to begin with, of nodes that need no model. */
export function example(): ObjectTree {
    return parse(
        '{"1": {"class_type": "EmptyImage", "inputs": {"width": 512, "height": 512, "batch_size": 1, "color": 1797324}, "_meta": {"title": "One colour"}},' +
            ' "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "example"}, "_meta": {"title": "Save"}}}',
    ) as ObjectTree
}
export const EXAMPLE_CLASSES = ['EmptyImage', 'SaveImage']
