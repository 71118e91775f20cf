// An input that is a file: one that is there already, or one that is uploaded; and what it looks like.
import { useRef, useState } from 'preact/hooks'
import { request } from './api'
import { ChoiceControl, type Control } from './run_choice'
import { say } from './ui'

const ACCEPT = { image: 'image/*', video: 'video/*', audio: 'audio/*', file: undefined }

export function FileInput({ c }: { c: Control }) {
    const { input } = c.field
    const [busy, setBusy] = useState('')
    const [over, setOver] = useState(false)
    const picker = useRef<HTMLInputElement>(null)

    const take = async (file: File | undefined) => {
        if (!file || busy) return
        setBusy(file.name)
        try {
            c.field.set(await upload(file))
        } catch (e) {
            say(`${file.name} could not be uploaded. ${(e as Error).message}`, true)
        } finally {
            setBusy('')
            if (picker.current) picker.current.value = '' // the same file may be chosen again
        }
    }
    return (
        <div
            class={`file${over ? ' is-over' : ''}`}
            aria-busy={busy !== ''}
            onDragOver={(e) => {
                if (!e.dataTransfer?.types.includes('Files')) return
                e.preventDefault()
                e.stopPropagation()
                setOver(true)
            }}
            onDragLeave={() => setOver(false)}
            onDrop={(e) => {
                e.preventDefault()
                e.stopPropagation()
                setOver(false)
                void take(e.dataTransfer?.files[0])
            }}
        >
            <Preview name={c.field.value} folder={input.folder} upload={input.upload!} />
            <div class="file-ways">
                <ChoiceControl c={c} />
                <input
                    ref={picker}
                    type="file"
                    accept={ACCEPT[input.upload!]}
                    aria-label={`Upload a file for ${input.name}`}
                    class="unseen"
                    tabIndex={-1}
                    onChange={(e) => void take(e.currentTarget.files?.[0])}
                />
                <button type="button" disabled={busy !== ''} onClick={() => picker.current?.click()}>
                    Upload…<span class="unseen"> a file for {input.name}</span>
                </button>
                <small class="dim" role="status">
                    {busy ? `Uploading ${busy}…` : 'or drop a file here'}
                </small>
            </div>
        </div>
    )
}

/** The name that the gateway gave it: another file of the same name is not replaced. */
async function upload(file: File): Promise<string> {
    const form = new FormData()
    form.append('image', file, file.name)
    form.append('type', 'input')
    const got = (await (await request('/upload/image', { method: 'POST', body: form })).json()) as { name: string; subfolder?: string }
    return got.subfolder ? `${got.subfolder}/${got.name}` : got.name
}

/** Where a named file can be looked at: "sub/name.png [output]" as ComfyUI reads it. */
function addressOf(value: string, folder: string): string {
    const marked = /^(.*) \[(input|output|temp)\]$/.exec(value)
    const path = marked ? marked[1]! : value
    const cut = path.lastIndexOf('/')
    return `/view?${new URLSearchParams({ filename: path.slice(cut + 1), subfolder: cut < 0 ? '' : path.slice(0, cut), type: marked ? marked[2]! : folder })}`
}

function Preview({ name, folder, upload }: { name: string; folder: string; upload: 'image' | 'video' | 'audio' | 'file' }) {
    const [broken, setBroken] = useState('')
    if (name === '' || upload === 'file') return null
    if (broken === name) return <p class="in-warn file-none">It cannot be shown from here.</p>
    const src = addressOf(name, folder)
    const onError = () => setBroken(name)
    if (upload === 'audio') return <audio class="file-sound" src={src} controls preload="none" aria-label={name} onError={onError} />
    if (upload === 'video') return <video class="file-picture" src={src} controls preload="metadata" aria-label={name} onError={onError} />
    return <img class="file-picture" src={src} alt={name} loading="lazy" onError={onError} />
}
