// A workflow to read: node by node, and as the text that was sent. Numbers are shown as they were written: a seed has more
// digits than a JavaScript number keeps.
import { useMemo, useState } from 'preact/hooks'
import { parse, pretty, textOf, type Tree } from './json_text'

interface NodeRow {
    id: string
    cls: string
    title: string
    inputs: [string, string, string | null][] // name, value as text, id of the node that it comes from
}

function rowsOf(prompt: Tree | undefined): NodeRow[] {
    if (prompt?.type !== 'object') return []
    return prompt.members.map(([id, node]) => {
        const of = (key: string) => (node.type === 'object' ? node.members.find(([k]) => k === key)?.[1] : undefined)
        const inputs = of('inputs')
        const meta = of('_meta')
        const title = meta?.type === 'object' ? meta.members.find(([k]) => k === 'title')?.[1] : undefined
        return {
            id,
            cls: textOf(of('class_type')),
            title: textOf(title),
            inputs:
                inputs?.type === 'object'
                    ? inputs.members.map(([name, v]): [string, string, string | null] => {
                          const from = v.type === 'array' && v.items.length === 2 && v.items[0]!.type === 'string' ? textOf(v.items[0]) : null
                          return [name, from === null ? textOf(v) : `${from}, output ${textOf(v.type === 'array' ? v.items[1] : v)}`, from]
                      })
                    : [],
        }
    })
}

export function WorkflowView({ text }: { text: string }) {
    const [raw, setRaw] = useState(false)
    const tree = useMemo(() => parse(text), [text])
    const prompt = tree?.type === 'object' ? tree.members.find(([k]) => k === 'prompt')?.[1] : undefined
    const rows = rowsOf(prompt)
    return (
        <>
            <label class="check">
                <input type="checkbox" checked={raw} onChange={(e) => setRaw(e.currentTarget.checked)} /> As text
            </label>
            {raw ? (
                <pre class="log" tabIndex={0} aria-label="The workflow as text">
                    {prompt ? pretty(prompt) : text}
                </pre>
            ) : (
                <div class="nodes">
                    {rows.map((r) => (
                        <section key={r.id} class="node" aria-label={`Node ${r.id}, ${r.cls}`}>
                            <h3>
                                <span class="mono dim">{r.id}</span> {r.title || r.cls}
                                {r.title && r.title !== r.cls && <small class="dim"> {r.cls}</small>}
                            </h3>
                            <dl class="facts">
                                {r.inputs.map(([name, value, from]) => (
                                    <div key={name}>
                                        <dt>{name}</dt>
                                        <dd class={from === null ? '' : 'dim'}>{from === null ? value : `← node ${value}`}</dd>
                                    </div>
                                ))}
                            </dl>
                        </section>
                    ))}
                </div>
            )}
        </>
    )
}
