// One picture, large, with the others to the left and right of it.
import { useEffect } from 'preact/hooks'
import type { Output } from './api'
import { href } from './router'
import { Dialog } from './ui'

export interface Shown {
    output: Output
    job: string
}

export function Lightbox(p: { items: Shown[]; index: number; onIndex: (i: number) => void; onClose: () => void }) {
    const { output, job } = p.items[p.index]!
    const step = (by: number) => {
        const to = p.index + by
        if (to >= 0 && to < p.items.length) p.onIndex(to)
    }
    useEffect(() => {
        const on = (e: KeyboardEvent) => {
            if (e.key === 'ArrowLeft') step(-1)
            else if (e.key === 'ArrowRight') step(1)
        }
        window.addEventListener('keydown', on)
        return () => window.removeEventListener('keydown', on)
    })
    return (
        <Dialog title={output.filename} wide onClose={p.onClose}>
            <img class="large" src={output.url} alt={output.filename} />
            <div class="buttons">
                <button type="button" disabled={p.index === 0} onClick={() => step(-1)}>
                    Previous
                </button>
                <button type="button" disabled={p.index === p.items.length - 1} onClick={() => step(1)}>
                    Next
                </button>
                <a class="button" href={href('jobs', job)} onClick={p.onClose}>
                    Its job
                </a>
                <a class="button" href={output.url} download={output.filename}>
                    Download
                </a>
            </div>
        </Dialog>
    )
}
