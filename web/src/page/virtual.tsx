// Long lists: only what can be seen, and a little more, is in the document. Rows have one height, so that a place is found
// by a division; with several columns a row holds several items.
import type { ComponentChildren } from 'preact'
import { useEffect, useLayoutEffect, useRef, useState } from 'preact/hooks'

const MORE = 6 // rows beyond each edge
const AHEAD = 40 // rows from the end at which more are asked for

export interface VirtualProps<T> {
    items: T[]
    rowHeight: number
    columns?: number
    keyOf: (item: T) => string
    render: (item: T, index: number) => ComponentChildren
    /** Called when the end comes into sight. */
    onEnd?: () => void
    label: string
    class?: string
    footer?: ComponentChildren
    /** Number of all items, if known to be more than are here. */
    total?: number
}

/** For a list whose row is as high as a class says: CSS variables cannot be asked for in the first drawing. */
export function useMedia(query: string): boolean {
    const [is, set] = useState(() => matchMedia(query).matches)
    useEffect(() => {
        const m = matchMedia(query)
        const on = () => set(m.matches)
        m.addEventListener('change', on)
        on()
        return () => m.removeEventListener('change', on)
    }, [query])
    return is
}

export function Virtual<T>(p: VirtualProps<T>) {
    const box = useRef<HTMLDivElement>(null)
    const columns = p.columns ?? 1
    const [view, setView] = useState({ top: 0, height: 800 })
    const latest = useRef(p)
    const anchor = useRef<{ key: string; above: number; top: number } | null>(null)
    const rows = Math.ceil(p.items.length / columns)

    const remember = () => {
        const { items, rowHeight, columns: n = 1, keyOf } = latest.current
        const top = box.current!.scrollTop
        if (anchor.current?.top === top) return
        const row = Math.ceil(top / rowHeight) // the first that is whole
        const item = top > rowHeight / 2 ? items[row * n] : undefined
        anchor.current = item === undefined ? null : { key: keyOf(item), above: top - row * rowHeight, top }
    }

    useLayoutEffect(() => {
        const el = box.current!
        const look = () => {
            remember()
            setView((v) => (v.top === el.scrollTop && v.height === el.clientHeight ? v : { top: el.scrollTop, height: el.clientHeight }))
        }
        const seen = new ResizeObserver(look)
        look()
        seen.observe(el)
        el.addEventListener('scroll', look, { passive: true })
        return () => {
            seen.disconnect()
            el.removeEventListener('scroll', look)
        }
    }, [])

    // Who has scrolled stays at the item they look at, whatever comes or goes above it; at the top what is new is seen.
    useLayoutEffect(() => {
        const el = box.current!
        const was = anchor.current
        const at = was ? p.items.findIndex((item) => p.keyOf(item) === was.key) : -1
        latest.current = p
        anchor.current = null
        if (was && at >= 0) {
            const above = was.above + (el.scrollTop - was.top) // what was scrolled since has not been told of yet
            el.scrollTop = Math.floor(at / columns) * p.rowHeight + above
        }
        remember() // anew: what was held on to may be far above by now, and rows between may grow
    }, [p.items, columns, p.rowHeight])

    const first = Math.max(0, Math.floor(view.top / p.rowHeight) - MORE)
    const last = Math.min(rows, Math.ceil((view.top + view.height) / p.rowHeight) + MORE)

    useLayoutEffect(() => {
        if (last + AHEAD >= rows) p.onEnd?.()
    }, [last, rows])

    return (
        <div class={`virtual ${p.class ?? ''}`} ref={box} tabIndex={0} role="list" aria-label={p.label}>
            <div class="virtual-all" role="presentation" style={{ height: `${rows * p.rowHeight}px` }}>
                {p.items.slice(first * columns, last * columns).map((item, i) => {
                    const at = first * columns + i
                    return (
                        <div
                            key={p.keyOf(item)}
                            class="virtual-item"
                            role="listitem"
                            aria-setsize={p.total ?? p.items.length}
                            aria-posinset={at + 1}
                            style={{
                                height: `${p.rowHeight}px`,
                                width: `${100 / columns}%`,
                                transform: `translate(${(at % columns) * 100}%, ${Math.floor(at / columns) * p.rowHeight}px)`,
                            }}
                        >
                            {p.render(item, at)}
                        </div>
                    )
                })}
            </div>
            {p.footer}
        </div>
    )
}
