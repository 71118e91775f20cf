// Finished pictures and films, newest first, as they come.
import { computed, useComputed, type Signal } from '@preact/signals'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'
import type { JobBrief, Output } from './api'
import { useJobList } from './jobs'
import type { JobList } from './jobs_list'
import { Lightbox } from './lightbox'
import { href, place, refine } from './router'
import { Empty, Thumb, Trouble } from './ui'
import { Virtual } from './virtual'
import { ago, now } from './words'

const KINDS = [
    { name: 'image', title: 'Pictures' },
    { name: 'video', title: 'Videos' },
] as const
type Kind = (typeof KINDS)[number]['name']

const MOST = 64 // of one job; the rest is on its page
const GAP = 10
const CAPTION = 26 + 8 // with the space below

/** A picture of a job, or where its others are. */
interface Item {
    key: string
    job: Signal<JobBrief>
    output: Output | null
    more: number
}

const fits = (kind: Kind, o: Output) => o.kind === kind || (kind === 'image' && o.kind === 'video')
const isBrief = (j: JobBrief) => j.outputs_count !== undefined && j.outputs_count > j.outputs.length

function itemsOf(job: Signal<JobBrief>, kind: Kind): Item[] {
    const j = job.value
    const all = j.outputs.filter((o) => fits(kind, o))
    const items: Item[] = all.slice(0, MOST).map((output) => ({ key: `${j.id}/${output.n}`, job, output, more: 0 }))
    const more = isBrief(j) ? j.outputs_count! - j.outputs.length : all.length - items.length

    // In the place, and under the name, of the next one: a list that stands here stays when the others have come.
    if (more > 0) items.push({ key: `${j.id}/${(items.at(-1)?.output?.n ?? -1) + 1}`, job, output: null, more })
    return items
}

/** How wide a list is, and how many tiles stand in a row of it. */
function useColumns(): { ref: preact.RefObject<HTMLDivElement | null>; columns: number; height: number } {
    const ref = useRef<HTMLDivElement>(null)
    const [width, setWidth] = useState(0)
    useLayoutEffect(() => {
        const el = ref.current!
        const look = () => setWidth(el.clientWidth)
        const seen = new ResizeObserver(look)
        look()
        seen.observe(el)
        return () => seen.disconnect()
    }, [])
    const least = width < 600 ? 150 : 200
    const columns = Math.max(2, Math.floor((width + GAP) / (least + GAP)))
    return { ref, columns, height: Math.round((width || 300) / columns) - GAP + CAPTION }
}

/** Lists name few outputs of a job: the others are asked for when it comes into sight. */
function More({ item, list }: { item: Item; list: JobList }) {
    const j = item.job.value
    const brief = isBrief(j)
    useEffect(() => {
        if (brief) void list.whole(j.id)
    }, [j.id, brief])
    return (
        <a class="tile is-more" href={href('jobs', j.id)}>
            <span>+{item.more} more</span>
        </a>
    )
}

function Tile({ item, onOpen }: { item: Item; onOpen: () => void }) {
    const j = item.job.value
    const o = item.output!
    const at = ago(j.finished_at ?? j.created_at, now.value)
    const server = j.server?.name ?? ''
    return (
        <button type="button" class="tile" data-key={item.key} onClick={onOpen}>
            <span class="unseen">Open {o.filename} large. </span>
            <span class="tile-picture">
                <Thumb output={o} size={256} />
                {o.kind === 'video' && <span class="tile-name">{o.filename}</span>}
            </span>
            <span class="tile-line">
                <b>{server}</b>
                <span>{at}</span>
            </span>
        </button>
    )
}

export function Gallery() {
    const q = place.value.query
    const kind: Kind = KINDS.find((k) => k.name === q.get('kind'))?.name ?? 'image'
    const server = q.get('server') ?? ''
    const window = q.get('window') ?? ''
    const list = useJobList({ state: ['succeeded'], server, window, client: '', kind })
    const set = (more: Record<string, string>) => refine({ kind: kind === 'image' ? '' : kind, server, window, ...more })

    return (
        <div class="page is-full">
            <div class="toolbar">
                <h1>Gallery</h1>
                <div class="choice" role="group" aria-label="Which kind">
                    {KINDS.map((k) => (
                        <button
                            type="button"
                            key={k.name}
                            aria-pressed={k.name === kind}
                            onClick={() => set({ kind: k.name === 'image' ? '' : k.name })}
                        >
                            {k.title}
                        </button>
                    ))}
                </div>
                <div class="filters">
                    {(['server', 'window'] as const).map((key) => (
                        <label key={key}>
                            <span>{key}</span>
                            <input
                                type="search"
                                value={{ server, window }[key]}
                                placeholder="any"
                                spellcheck={false}
                                autocomplete="off"
                                onChange={(e) => set({ [key]: e.currentTarget.value.trim() })}
                            />
                        </label>
                    ))}
                </div>
            </div>
            <Pictures list={list} kind={kind} filtered={server !== '' || window !== ''} key={JSON.stringify([kind, server, window])} />
        </div>
    )
}

function Pictures({ list, kind, filtered }: { list: JobList; kind: Kind; filtered: boolean }) {
    // Per job, so that one that changes does not make all others be looked at again.
    const parts = useRef(new WeakMap<Signal<JobBrief>, Signal<Item[]>>())
    const items = useComputed(() =>
        list.jobs.value.flatMap((job) => {
            let part = parts.current.get(job)
            if (!part) parts.current.set(job, (part = computed(() => itemsOf(job, kind)) as Signal<Item[]>))
            return part.value
        }),
    ).value
    const { ref, columns, height } = useColumns()
    const [open, setOpen] = useState<string | null>(null)
    const shown = items.filter((i) => i.output !== null)
    const at = open === null ? -1 : shown.findIndex((i) => i.key === open)

    // Back to the picture that was looked at last, which need not be the one that was opened.
    const close = () => {
        const row = Math.floor(items.findIndex((i) => i.key === open) / columns)
        const box = ref.current?.querySelector<HTMLElement>('.virtual')
        const find = () => [...(box?.querySelectorAll<HTMLElement>('[data-key]') ?? [])].find((el) => el.dataset.key === open)
        setOpen(null)
        if (!box) return
        if (row >= 0 && (row * height < box.scrollTop || (row + 1) * height > box.scrollTop + box.clientHeight))
            box.scrollTop = (row + 0.5) * height - box.clientHeight / 2
        requestAnimationFrame(() => requestAnimationFrame(() => (find() ?? box).focus({ preventScroll: true })))
    }

    return (
        <div class="gallery" ref={ref}>
            {list.error.value && <Trouble error={list.error.value} what="The pictures could not be read." />}
            {items.length === 0 && list.complete.value ? (
                <Empty>
                    {filtered ? (
                        'Nothing here is like this.'
                    ) : (
                        <>
                            {kind === 'image' ? 'No picture has been made yet.' : 'No film has been made yet.'} What jobs make stands here as soon as
                            they are done; <a href={href('run')}>run a workflow</a>.
                        </>
                    )}
                </Empty>
            ) : (
                <Virtual
                    label={kind === 'image' ? 'Pictures, newest first' : 'Videos, newest first'}
                    items={items}
                    rowHeight={height}
                    columns={columns}
                    keyOf={(i) => i.key}
                    render={(i) => (i.output ? <Tile item={i} onOpen={() => setOpen(i.key)} /> : <More item={i} list={list} />)}
                    onEnd={() => void list.more()}
                />
            )}
            {at >= 0 && (
                <Lightbox
                    items={shown.map((i) => ({ output: i.output!, job: i.job.peek().id, about: i.job.peek() }))}
                    index={at}
                    onIndex={(i) => {
                        setOpen(shown[i]!.key)
                        if (i > shown.length - 8) void list.more()
                    }}
                    onClose={close}
                />
            )}
        </div>
    )
}
