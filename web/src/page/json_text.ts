// JSON that keeps the text of its numbers. JSON.parse makes 18446744073709551615 another number, and 5.0 an integer;
// a workflow that is shown, edited and sent again must not change where nobody has changed it.

export type Tree =
    | { type: 'object'; members: [string, Tree][] }
    | { type: 'array'; items: Tree[] }
    | { type: 'string'; value: string }
    | { type: 'number'; text: string }
    | { type: 'word'; text: 'true' | 'false' | 'null' }

export type ObjectTree = Extract<Tree, { type: 'object' }>

// A string is matched in long runs: an engine remembers each turn of a loop, and pictures stand in workflows as text.
const TOKEN = /\s*(?:([{}[\],:])|("[^"\\\u0000-\u001f]*(?:\\.[^"\\\u0000-\u001f]*)*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)|(true|false|null))/y
const DEPTH_MAX = 500

export class JsonError extends Error {}

/** The tree of a JSON text; null if it is none. */
export function parse(text: string): Tree | null {
    try {
        return parseOrThrow(text)
    } catch {
        return null
    }
}

/** As parse(), with a JsonError that says where. */
export function parseOrThrow(text: string): Tree {
    let at = 0
    let token: RegExpExecArray | null = null

    const wrong = (): JsonError => {
        const line = text.slice(0, at).split('\n').length
        return new JsonError(at >= text.trimEnd().length ? 'The text ends too early' : `Line ${line} is no JSON: ${text.slice(at).trim().slice(0, 20)}`)
    }
    const next = (): RegExpExecArray => {
        TOKEN.lastIndex = at
        token = TOKEN.exec(text)
        if (!token) throw wrong()
        return token
    }
    const eat = (): void => {
        at = TOKEN.lastIndex
    }
    const want = (mark: string): void => {
        if (next()[1] !== mark) throw wrong()
        eat()
    }
    const string = (): string => {
        const t = next()
        if (t[2] === undefined) throw wrong()
        eat()
        return JSON.parse(t[2]) as string
    }
    const value = (depth: number): Tree => {
        if (depth > DEPTH_MAX) throw new JsonError('It is nested too deeply')
        const t = next()
        if (t[2] !== undefined) return { type: 'string', value: string() }
        if (t[3] !== undefined) {
            eat()
            return { type: 'number', text: t[3] }
        }
        if (t[4] !== undefined) {
            eat()
            return { type: 'word', text: t[4] as 'true' }
        }
        if (t[1] === '[') {
            const items: Tree[] = []
            eat()
            if (next()[1] === ']') {
                eat()
                return { type: 'array', items }
            }
            for (;;) {
                items.push(value(depth + 1))
                if (next()[1] !== ',') break
                eat()
            }
            want(']')
            return { type: 'array', items }
        }
        if (t[1] === '{') {
            const members: [string, Tree][] = []
            eat()
            if (next()[1] === '}') {
                eat()
                return { type: 'object', members }
            }
            for (;;) {
                const key = string()
                want(':')
                members.push([key, value(depth + 1)])
                if (next()[1] !== ',') break
                eat()
            }
            want('}')
            return { type: 'object', members }
        }
        throw wrong()
    }

    const tree = value(0)
    if (text.slice(at).trim() !== '') throw wrong()
    return tree
}

/** The JSON text of a tree, on one line. */
export function stringify(t: Tree): string {
    switch (t.type) {
        case 'object':
            return `{${t.members.map(([k, v]) => `${JSON.stringify(k)}: ${stringify(v)}`).join(', ')}}`
        case 'array':
            return `[${t.items.map(stringify).join(', ')}]`
        case 'string':
            return JSON.stringify(t.value)
        default:
            return t.text
    }
}

/** The JSON text of a tree, indented. Short arrays stay on their line. */
export function pretty(t: Tree, indent = ''): string {
    const inner = `${indent}  `
    if (t.type === 'object' && t.members.length)
        return `{\n${t.members.map(([k, v]) => `${inner}${JSON.stringify(k)}: ${pretty(v, inner)}`).join(',\n')}\n${indent}}`
    if (t.type === 'array' && stringify(t).length > 60) return `[\n${t.items.map((v) => inner + pretty(v, inner)).join(',\n')}\n${indent}]`
    return stringify(t)
}

/** For people: a string as it is, all else as JSON. */
export function textOf(t: Tree | undefined): string {
    return t === undefined ? '' : t.type === 'string' ? t.value : stringify(t)
}

/** The value of a key; of keys that stand there twice the last one counts, as in every reader of JSON. */
export function member(t: Tree | undefined, key: string): Tree | undefined {
    return t?.type === 'object' ? t.members.findLast(([k]) => k === key)?.[1] : undefined
}

/** A copy with the key's value exchanged where it stands, or put at the end. */
export function withMember(t: ObjectTree, key: string, value: Tree): ObjectTree {
    const at = t.members.findLastIndex(([k]) => k === key)
    return { type: 'object', members: at < 0 ? [...t.members, [key, value]] : t.members.with(at, [key, value]) }
}

export function withoutMember(t: ObjectTree, key: string): ObjectTree {
    return { type: 'object', members: t.members.filter(([k]) => k !== key) }
}

export const stringTree = (value: string): Tree => ({ type: 'string', value })
