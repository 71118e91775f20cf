// What a job made: pictures to look at, films and sounds to play, texts to read, the rest to take away.
import { useEffect, useState } from 'preact/hooks'
import { request, type Output } from './api'
import { Lightbox } from './lightbox'
import { Thumb } from './ui'
import { bytes } from './words'

const TEXT_SHOWN = 20000

function Text({ output }: { output: Output }) {
    const [text, setText] = useState<string | null>(null)
    useEffect(() => {
        const abort = new AbortController()
        request(output.url, { signal: abort.signal, headers: { Range: `bytes=0-${TEXT_SHOWN}` } })
            .then((r) => r.text())
            .then((t) => setText(t.length > TEXT_SHOWN ? `${t.slice(0, TEXT_SHOWN)}…` : t))
            .catch((e: Error) => abort.signal.aborted || setText(e.message))
        return () => abort.abort()
    }, [output.url])
    return (
        <pre class="output-text" tabIndex={0}>
            {text ?? ''}
        </pre>
    )
}

function Media({ output: o, onOpen }: { output: Output; onOpen: () => void }) {
    switch (o.kind) {
        case 'image':
            return (
                <button type="button" class="plain output-open" onClick={onOpen} aria-label={`Open ${o.filename} large`}>
                    <Thumb output={o} size={512} alt={o.filename} />
                </button>
            )
        case 'video':
            return <video class="output-media" src={o.url} controls preload="metadata" aria-label={o.filename} />
        case 'audio':
            return <audio class="output-sound" src={o.url} controls preload="metadata" aria-label={o.filename} />
        case 'text':
        case 'json':
            return <Text output={o} />
        default:
            return <Thumb output={o} alt={`${o.filename}, to be downloaded`} />
    }
}

export function Outputs({ outputs, job }: { outputs: Output[]; job: string }) {
    const [open, setOpen] = useState(-1)
    const images = outputs.filter((o) => o.kind === 'image')
    return (
        <>
            <ul class="outputs">
                {outputs.map((o) => (
                    <li key={o.n}>
                        <figure class={`output is-${o.kind}`}>
                            <Media output={o} onOpen={() => setOpen(images.indexOf(o))} />
                            <figcaption>
                                <span class="output-name" title={o.filename}>
                                    {o.filename}
                                </span>
                                <span class="dim">
                                    {o.kind}, {bytes(o.size)}
                                    {o.node_id ? `, node ${o.node_id}` : ''}
                                    {o.type && o.type !== 'output' ? `, ${o.type}` : ''}
                                </span>
                                <a href={o.url} download={o.filename}>
                                    Download<span class="unseen"> {o.filename}</span>
                                </a>
                            </figcaption>
                        </figure>
                    </li>
                ))}
            </ul>
            {open >= 0 && (
                <Lightbox items={images.map((output) => ({ output, job }))} index={open} onIndex={setOpen} onClose={() => setOpen(-1)} />
            )}
        </>
    )
}
