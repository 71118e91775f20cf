// What people look for in a workflow first: its seeds and its prompts. Numbers stay text, a seed has more digits than a
// JavaScript number keeps.
import { parse, textOf, type Tree } from './json_text'

export interface Fact {
    name: string
    value: string
}

interface Node {
    id: string
    title: string
    inputs: Map<string, Tree>
}

const SEEDS = ['seed', 'noise_seed']
const TEXTS = ['text', 'prompt', 'text_g', 'text_l', 'clip_l', 't5xxl', 'positive_prompt', 'negative_prompt']
const SIDES = ['positive', 'negative']
const STEPS = 12 // from a sampler back to its texts

function member(t: Tree | undefined, key: string): Tree | undefined {
    return t?.type === 'object' ? t.members.find(([k]) => k === key)?.[1] : undefined
}

function nodesOf(prompt: Tree | undefined): Map<string, Node> {
    const nodes = new Map<string, Node>()
    if (prompt?.type !== 'object') return nodes
    for (const [id, node] of prompt.members) {
        const inputs = member(node, 'inputs')
        nodes.set(id, {
            id,
            title: textOf(member(member(node, '_meta'), 'title')) || textOf(member(node, 'class_type')),
            inputs: new Map(inputs?.type === 'object' ? inputs.members : []),
        })
    }
    return nodes
}

/** The node that an input comes from: ["4", 0]. */
function source(nodes: Map<string, Node>, t: Tree | undefined): Node | undefined {
    if (t?.type !== 'array' || t.items.length !== 2 || t.items[0]!.type !== 'string') return undefined
    return nodes.get(textOf(t.items[0]))
}

/** What an input is, also if it stands in a node of its own that holds a value. */
function plain(nodes: Map<string, Node>, t: Tree | undefined, type: 'string' | 'number'): string | null {
    const value = source(nodes, t)?.inputs.get('value') ?? t
    return value?.type === type ? textOf(value) : null
}

function seeds(nodes: Map<string, Node>): Fact[] {
    const found: Fact[] = []
    for (const node of nodes.values())
        for (const key of SEEDS) {
            const value = plain(nodes, node.inputs.get(key), 'number')
            if (value !== null) found.push({ name: node.title, value })
        }
    return found.length === 1 ? [{ name: 'Seed', value: found[0]!.value }] : found.map((f) => ({ ...f, name: `Seed, ${f.name}` }))
}

/** The texts that a sampler's input leads back to. */
function textsBehind(nodes: Map<string, Node>, from: Node | undefined, seen: Set<string>, steps = STEPS): string[] {
    if (!from || steps === 0 || seen.has(from.id)) return []
    seen.add(from.id)
    const own = TEXTS.map((key) => plain(nodes, from.inputs.get(key), 'string')).filter((t) => t !== null)
    if (own.length) return own
    return [...from.inputs]
        .filter(([key]) => key.startsWith('conditioning') || SIDES.includes(key))
        .flatMap(([, t]) => textsBehind(nodes, source(nodes, t), seen, steps - 1))
}

function prompts(nodes: Map<string, Node>): Fact[] {
    const facts: Fact[] = []
    const shown = new Set<string>()
    const add = (name: string, value: string) => {
        if (value.trim() === '' || shown.has(value)) return
        shown.add(value)
        facts.push({ name, value })
    }
    for (const side of SIDES)
        for (const node of nodes.values())
            for (const text of textsBehind(nodes, source(nodes, node.inputs.get(side)), new Set()))
                add(side === 'positive' ? 'Prompt' : 'Negative prompt', text)
    for (const node of nodes.values())
        for (const key of TEXTS) {
            const text = plain(nodes, node.inputs.get(key), 'string')
            if (text !== null) add(facts.length ? node.title : 'Prompt', text)
        }
    return facts
}

/** Of the text of /mux/v1/jobs/{id}/workflow. */
export function workflowFacts(text: string): Fact[] {
    const nodes = nodesOf(member(parse(text) ?? undefined, 'prompt'))
    return [...prompts(nodes), ...seeds(nodes)]
}
