// The nodes of the workflow, those that are most often changed first.
import { computed, useSignal } from '@preact/signals'
import { useEffect, useId, useMemo, useRef } from 'preact/hooks'
import { add, InputRow, nodeId, sought } from './run_input'
import { GROUPS, matches, type Group, type NodeForm } from './run_model'
import { askAgain, edited, field, form, infoError, loaded, nodeRefusals } from './run_state'
import { faultsAt } from './run_submit'
import { Empty, Trouble } from './ui'

const MANY = 8 // nodes from which on they can be searched
const PAGE = 40 // nodes of a group that are shown at once

export function Form() {
    const search = useSignal('')
    const changedOnly = useSignal(false)
    const nodes = form.value
    const box = useRef<HTMLDivElement>(null)
    const unasked = nodes.some((n) => n.known === null)
    const unknown = [...new Set(nodes.filter((n) => n.known === false).map((n) => n.cls))]
    // Asked for only when it matters: else all of this would be drawn again with every letter that is typed.
    const changed = changedOnly.value ? new Set(edited.value.map((f) => f.node)) : null

    useEffect(() => {
        if (faultsAt.value) focus(box.current?.querySelector<HTMLElement>('[aria-invalid="true"], .node.is-wrong, .is-wire.is-wrong button'))
    }, [faultsAt.value])
    useEffect(() => {
        const id = sought.value
        if (id === null) return
        search.value = ''
        changedOnly.value = false
        requestAnimationFrame(() => {
            focus(document.getElementById(nodeId(id)))
            sought.value = null
        })
    }, [sought.value])

    if (unasked && !infoError.value) return <p class="dim">Asking the servers about its nodes…</p>
    const narrowed = search.value.trim() !== '' || changedOnly.value
    const wanted = nodes.filter((n) => matches(n, search.value.trim()) && (!changed || changed.has(n.id)))
    return (
        <div ref={box} class="run-form">
            {infoError.value && (
                <>
                    <Trouble error={infoError.value} what="What its nodes take could not be asked." />
                    <div class="buttons">
                        <button type="button" onClick={askAgain}>
                            Ask again
                        </button>
                    </div>
                </>
            )}
            {unknown.length > 0 && <Unknown classes={unknown} />}
            {nodes.length >= MANY && (
                <div class="toolbar">
                    <label class="run-search">
                        <span class="unseen">Search the nodes</span>
                        <input
                            type="search"
                            placeholder={`Search ${nodes.length} nodes`}
                            value={search.value}
                            spellcheck={false}
                            onInput={(e) => (search.value = e.currentTarget.value)}
                        />
                    </label>
                    <label class="check">
                        <input type="checkbox" checked={changedOnly.value} onChange={(e) => (changedOnly.value = e.currentTarget.checked)} />
                        only changed ones
                    </label>
                </div>
            )}
            {narrowed && wanted.length === 0 && <Empty>No node is like this.</Empty>}
            {GROUPS.map((g) => {
                const own = wanted.filter((n) => n.group === g.name)
                return <NodeGroup key={`${g.name} ${loaded.value?.name}`} name={g.name} title={g.title} nodes={own} forced={narrowed} />
            })}
        </div>
    )
}

/** A card can be focused only now: one that is clicked into is not to look chosen. */
function focus(at: HTMLElement | null | undefined): void {
    if (!at) return
    if (at.tagName === 'SECTION') {
        at.tabIndex = -1
        at.addEventListener('blur', () => at.removeAttribute('tabindex'), { once: true })
    }
    at.focus()
}

function Unknown({ classes }: { classes: string[] }) {
    return (
        <div class="warning" role="status">
            <strong>No server has {classes.length === 1 ? 'this class' : 'these classes'}:</strong>{' '}
            {classes.map((c, i) => (
                <span key={c}>
                    {i > 0 && ', '}
                    <code>{c}</code>
                </span>
            ))}
            . The workflow cannot run until one does.{' '}
            <button type="button" class="plain link" onClick={askAgain}>
                Look again
            </button>
        </div>
    )
}

/** Those without anything to set are closed at first. What has a fault is never hidden. */
function NodeGroup({ name, title, nodes, forced }: { name: Group; title: string; nodes: NodeForm[]; forced: boolean }) {
    const open = useSignal(name !== 'links')
    const pages = useSignal(1)
    const id = useId()
    // Up to there they must be seen: a change of this, and not every letter, draws the group again.
    const lastWrong = useMemo(() => computed(() => nodes.findLastIndex(isWrong)), [nodes])
    const lookedFor = sought.value === null ? -1 : nodes.findIndex((n) => n.id === sought.value)
    useEffect(() => {
        if (lookedFor < 0) return
        open.value = true
        pages.value = Math.max(pages.value, Math.ceil((lookedFor + 1) / PAGE))
    }, [lookedFor])
    const shown = open.value || forced || lastWrong.value >= 0 || lookedFor >= 0
    const until = Math.max(pages.value * PAGE, lastWrong.value + 1, lookedFor + 1)
    if (nodes.length === 0) return null
    return (
        <section class="group" aria-labelledby={id}>
            <h2 id={id}>
                <button type="button" class="plain" aria-expanded={shown} onClick={() => (open.value = !shown)}>
                    <span aria-hidden="true" class="group-sign">
                        {shown ? '▾' : '▸'}
                    </span>
                    {title} <small class="dim">{nodes.length}</small>
                </button>
            </h2>
            {shown && (
                <div class="group-nodes">
                    {nodes.slice(0, until).map((n) => (
                        <NodeCard key={n.id} node={n} />
                    ))}
                </div>
            )}
            {shown && nodes.length > until && (
                <p>
                    <button type="button" onClick={() => (pages.value = Math.ceil(until / PAGE) + 1)}>
                        Show {Math.min(PAGE, nodes.length - until)} of {nodes.length - until} more<span class="unseen"> in {title}</span>
                    </button>
                </p>
            )}
        </section>
    )
}

function isWrong(n: NodeForm): boolean {
    const fields = [...n.inputs, ...n.addable].flatMap((i) => field(n.id, i.name) ?? [])
    return nodeRefusals.value.has(n.id) || fields.some((f) => f.refused.value !== null || f.fault !== null)
}

function NodeCard({ node: n }: { node: NodeForm }) {
    const id = nodeId(n.id)
    const refused = nodeRefusals.value.get(n.id)
    const added = n.addable.filter((i) => field(n.id, i.name)?.text.value != null)
    const left = n.addable.filter((i) => !added.includes(i))
    const wired = n.inputs.filter((i) => i.kind === 'link' || i.kind === 'socket')
    const own = n.inputs.filter((i) => !wired.includes(i))
    return (
        <section id={id} class={`node${refused ? ' is-wrong' : ''}`} aria-labelledby={`${id}-title`}>
            <h3 id={`${id}-title`} title={n.description || undefined}>
                {n.title} <span class="dim mono">{n.id}</span>
                {n.title !== n.cls && <small class="dim"> {n.cls}</small>}
            </h3>
            {n.feeds.length > 0 && n.group === 'prompt' && <p class="node-feeds dim">{list(n.feeds)}</p>}
            {n.known === false && (
                <p class="in-warn">
                    No server has the class <code>{n.cls}</code>.
                </p>
            )}
            {refused?.map((text, i) => (
                <p key={i} class="in-fault">
                    {text}
                </p>
            ))}
            <div class="ins">
                {[...own, ...added].map((i) => (
                    <InputRow key={i.name} node={n.id} input={i} />
                ))}
            </div>
            {wired.length > 0 && (
                <div class="wires">
                    {wired.map((i) => (
                        <InputRow key={i.name} node={n.id} input={i} />
                    ))}
                </div>
            )}
            {left.length > 0 && (
                <select
                    class="in-add"
                    aria-label={`Add an optional input to ${n.title}`}
                    value=""
                    onChange={(e) => {
                        const f = field(n.id, e.currentTarget.value)
                        e.currentTarget.value = ''
                        if (f) add(f)
                    }}
                >
                    <option value="">Add an input…</option>
                    {left.map((i) => (
                        <option key={i.name} value={i.name}>
                            {i.name}
                        </option>
                    ))}
                </select>
            )}
        </section>
    )
}

const list = (words: string[]): string => (words.length > 3 ? `${words.slice(0, 3).join(', ')} and ${words.length - 3} more` : words.join(', '))
