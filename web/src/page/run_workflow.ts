// Recognises a workflow that can be run in what people have: a file from "Export (API)", a request's body, an entry of the
// history, what a picture carries. What it is not is said in words that help.
import { JsonError, member, parse, parseOrThrow, withoutMember, type ObjectTree, type Tree } from './json_text'
import type { Carried } from './run_file'

export interface Workflow {
    prompt: ObjectTree
    /** What goes along with it and is not the workflow (`extra_data` of a request). */
    extra: ObjectTree | null
}

/** Says why something is no workflow that can be run. */
export class NoWorkflow extends Error {}

const DRAWING =
    'This is a workflow as ComfyUI saves it for its own page: it holds the drawing, not what is run. ' +
    'Open it in ComfyUI and choose Workflow, “Export (API)”; then bring that file.'

export function recognise(c: Carried): Workflow {
    if (c.kind === 'text') return fromText(c.prompt ?? '')
    if (c.prompt === null && c.workflow === null)
        throw new NoWorkflow(
            'This picture carries no workflow. Only pictures that ComfyUI saved do, and many sites and programs take it out. ' +
                'To use the picture as an input, drop it on that input.',
        )
    if (c.prompt === null) return fromText(c.workflow!)
    const w = fromText(c.prompt)
    const drawing = c.workflow === null ? undefined : tolerant(c.workflow)
    const extra: ObjectTree | null =
        drawing === undefined
            ? null
            : { type: 'object', members: [['extra_pnginfo', { type: 'object', members: [['workflow', drawing]] }]] }
    return { prompt: asSubmitted(w.prompt), extra: w.extra ?? extra }
}

export function fromText(text: string): Workflow {
    if (text.trim() === '') throw new NoWorkflow('There is nothing in it.')
    let tree: Tree
    try {
        tree = parseOrThrow(text)
    } catch (e) {
        const again = tolerant(text)
        if (again === undefined) throw new NoWorkflow(e instanceof JsonError ? `This is no JSON. ${e.message}.` : 'This is no JSON.')
        tree = again
    }
    return fromTree(tree)
}

/** Python writes NaN and Infinity, which are no JSON; ComfyUI puts such texts into pictures. */
function tolerant(text: string): Tree | undefined {
    const mended = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\bInfinity\b|\bNaN\b/g, (m) => (m.startsWith('"') ? m : 'null'))
    return parse(mended) ?? undefined
}

const object = (t: Tree | undefined): ObjectTree | null => (t?.type === 'object' ? t : null)
const isDrawing = (t: Tree | undefined): boolean => member(t, 'nodes')?.type === 'array'

/** t, if it holds nodes as they are run. */
function promptIn(t: Tree | undefined): ObjectTree | null {
    const o = object(t)
    return o?.members.some(([, node]) => member(node, 'class_type')?.type === 'string') ? o : null
}

function fromTree(tree: Tree): Workflow {
    if (tree.type !== 'object') throw new NoWorkflow('This is JSON, but no workflow: a workflow is an object of nodes.')
    const bare = promptIn(tree)
    if (bare) return { prompt: bare, extra: null }
    if (isDrawing(tree)) {
        const inside = promptIn(member(member(tree, 'extra'), 'prompt'))
        if (inside) return { prompt: inside, extra: null }
        throw new NoWorkflow(DRAWING)
    }
    for (const key of ['prompt', 'output', 'workflow']) {
        let inside = member(tree, key)
        if (inside?.type === 'string') inside = parse(inside.value) ?? undefined
        // An entry of the history: number, id, workflow, extra data, outputs.
        const entry = inside?.type === 'array' ? inside.items : null
        const prompt = promptIn(entry ? entry[2] : inside)
        if (prompt) return { prompt, extra: object(entry ? entry[3] : member(tree, 'extra_data')) }
    }
    if (isDrawing(member(tree, 'workflow'))) throw new NoWorkflow(DRAWING)
    if (tree.members.length === 0) throw new NoWorkflow('This workflow has no nodes.')
    throw new NoWorkflow('This is JSON, but no workflow in API format: nothing in it has a “class_type”.')
}

/** Servers note in a node whether it had changed (`is_changed`), and believe that note when it is sent to them again: a
    file that has changed since would not be read. It never was part of what was asked for. */
function asSubmitted(prompt: ObjectTree): ObjectTree {
    return {
        type: 'object',
        members: prompt.members.map(([id, node]) => [id, node.type === 'object' && member(node, 'is_changed') ? withoutMember(node, 'is_changed') : node]),
    }
}
