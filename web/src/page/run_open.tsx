// Ways to bring a workflow: drop, choose, paste, a job's, an example.
import { signal } from '@preact/signals'
import { useEffect, useRef, useState } from 'preact/hooks'
import { jobPath, request, type ApiError } from './api'
import { refine } from './router'
import { FileError, FILE_MAX, readCarried } from './run_file'
import { EXAMPLE_CLASSES, example } from './run_model'
import { load, loaded } from './run_state'
import { fromText, NoWorkflow, recognise } from './run_workflow'
import { Dialog } from './ui'

/** Why what was brought last is no workflow. */
export const refusal = signal<{ name: string; text: string } | null>(null)

function came(job = ''): void {
    refusal.value = null
    if (!job) refine({}) // a reload is not to read the job again
}

export async function openFile(file: File | undefined): Promise<void> {
    if (!file) return
    try {
        if (file.size > FILE_MAX) throw new FileError('This file is too large to be a workflow.')
        load(recognise(await readCarried(new Uint8Array(await file.arrayBuffer()))), file.name)
        came()
    } catch (e) {
        refuse(file.name, e)
    }
}

export function openText(text: string, name: string): boolean {
    try {
        load(fromText(text), name)
        came()
        return true
    } catch (e) {
        refuse(name, e)
        return false
    }
}

function refuse(name: string, e: unknown): void {
    const said = e instanceof NoWorkflow || e instanceof FileError
    refusal.value = { name, text: said ? e.message : 'It could not be read.' }
}

/** A picture of this gateway that is dragged here from another window comes as its address. */
async function openAddress(address: string): Promise<void> {
    const url = URL.canParse(address) ? new URL(address) : null
    if (url?.origin !== location.origin) {
        refusal.value = { name: 'This address', text: 'Only files, and pictures of this gateway, can be dropped here. Save it first, then drop the file.' }
        return
    }
    try {
        const path = url.pathname.replace(/\/thumb$/, '')
        const got = await request(path + (path === url.pathname ? url.search : ''))
        await openFile(new File([await got.blob()], path.slice(path.lastIndexOf('/') + 1)))
    } catch (e) {
        refusal.value = { name: address, text: (e as Error).message }
    }
}

/** Loads the workflow of a job when the address names one, once. */
export function useJobWorkflow(job: string): { busy: boolean; error: ApiError | null } {
    const [state, set] = useState<{ busy: boolean; error: ApiError | null }>({ busy: false, error: null })
    useEffect(() => {
        set({ busy: false, error: null })
        if (job === '' || loaded.peek()?.job === job) return
        const abort = new AbortController()
        set({ busy: true, error: null })
        request(`${jobPath(job)}/workflow`, { signal: abort.signal })
            .then((r) => r.text())
            .then((text) => {
                load(fromText(text), `job ${job}`, job)
                came(job)
                set({ busy: false, error: null })
            })
            .catch((e: unknown) => {
                if (abort.signal.aborted) return
                if (e instanceof NoWorkflow) refuse(`Job ${job}`, e)
                set({ busy: false, error: e instanceof NoWorkflow ? null : (e as ApiError) })
            })
        return () => abort.abort()
    }, [job])
    return state
}

/** The whole page takes what is dropped or pasted; gives whether something is held over it. */
export function useDrops(): boolean {
    const [over, setOver] = useState(false)
    useEffect(() => {
        const takes = (d: DataTransfer | null) => !!d && (d.types.includes('Files') || d.types.includes('text/uri-list'))
        const drag = (e: DragEvent) => {
            if (!takes(e.dataTransfer)) return
            e.preventDefault()
            setOver(true)
        }
        const elsewhere = (e: DragEvent) => {
            if ((e.target as HTMLElement).closest?.('.file')) setOver(false) // an input takes it
        }
        const leave = (e: DragEvent) => e.relatedTarget === null && setOver(false)
        const drop = (e: DragEvent) => {
            setOver(false)
            if (!takes(e.dataTransfer)) return
            e.preventDefault()
            const file = e.dataTransfer!.files[0]
            if (file) void openFile(file)
            else void openAddress(e.dataTransfer!.getData('text/uri-list').split(/\r?\n/)[0] ?? '')
        }
        const paste = (e: ClipboardEvent) => {
            if ((e.target as HTMLElement).closest?.('input, textarea, select, dialog')) return
            const file = e.clipboardData?.files[0]
            const text = e.clipboardData?.getData('text/plain') ?? ''
            if (file) void openFile(file)
            else if (text.trim()) openText(text, 'What was pasted')
        }
        // One that is dropped on an input does not come here: then the sign is put away all the same.
        const end = () => setOver(false)
        window.addEventListener('dragover', elsewhere, true)
        window.addEventListener('dragover', drag)
        window.addEventListener('dragleave', leave)
        window.addEventListener('drop', drop)
        window.addEventListener('drop', end, true)
        window.addEventListener('paste', paste)
        return () => {
            window.removeEventListener('dragover', elsewhere, true)
            window.removeEventListener('dragover', drag)
            window.removeEventListener('dragleave', leave)
            window.removeEventListener('drop', drop)
            window.removeEventListener('drop', end, true)
            window.removeEventListener('paste', paste)
        }
    }, [])
    return over
}

export function ChooseButton({ children, class: className }: { children: string; class?: string }) {
    const picker = useRef<HTMLInputElement>(null)
    return (
        <>
            <input
                ref={picker}
                type="file"
                accept=".json,application/json,image/png,image/webp,image/jpeg"
                class="unseen"
                tabIndex={-1}
                aria-label="A workflow's file"
                onChange={(e) => {
                    void openFile(e.currentTarget.files?.[0])
                    e.currentTarget.value = ''
                }}
            />
            <button type="button" class={className} onClick={() => picker.current?.click()}>
                {children}
            </button>
        </>
    )
}

export function PasteButton() {
    const [open, setOpen] = useState(false)
    const [text, setText] = useState('')
    return (
        <>
            <button type="button" onClick={() => setOpen(true)}>
                Paste…
            </button>
            {open && (
                <Dialog title="Paste a workflow" onClose={() => setOpen(false)}>
                    <form
                        class="paste"
                        onSubmit={(e) => {
                            e.preventDefault()
                            if (openText(text, 'What was pasted')) setText('')
                            setOpen(false)
                        }}
                    >
                        <label>
                            A workflow in API format, or the body of a request
                            <textarea
                                class="mono"
                                rows={14}
                                spellcheck={false}
                                value={text}
                                placeholder={'{"1": {"class_type": "…", "inputs": {…}}}'}
                                onInput={(e) => setText(e.currentTarget.value)}
                            />
                        </label>
                        <div class="buttons">
                            <button type="submit" class="is-main" disabled={text.trim() === ''}>
                                Open
                            </button>
                        </div>
                    </form>
                </Dialog>
            )}
        </>
    )
}

/** Offered where the servers have the two nodes that it needs. */
export function ExampleButton() {
    const [there, setThere] = useState(false)
    useEffect(() => {
        const abort = new AbortController()
        Promise.all(EXAMPLE_CLASSES.map(async (c) => (await (await request(`/object_info/${c}`, { signal: abort.signal })).json()) as object))
            .then((all) => setThere(all.every((o, i) => EXAMPLE_CLASSES[i]! in o)))
            .catch(() => {})
        return () => abort.abort()
    }, [])
    if (!there) return null
    return (
        <button
            type="button"
            onClick={() => {
                load({ prompt: example(), extra: null }, 'A small example')
                came()
            }}
        >
            Try a small example
        </button>
    )
}

export function Opener() {
    return (
        <div class="drop">
            <p class="drop-title">Drop a workflow here</p>
            <p class="dim">
                A file that ComfyUI wrote with Workflow, “Export (API)”, or a picture that it saved (PNG, WebP): such pictures carry the workflow that made
                them.
            </p>
            <div class="buttons">
                <ChooseButton class="is-main">Choose a file…</ChooseButton>
                <PasteButton />
                <ExampleButton />
            </div>
        </div>
    )
}
