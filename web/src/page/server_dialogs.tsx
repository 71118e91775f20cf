// Adding a server, and taking one away.
import { useState } from 'preact/hooks'
import { ApiError, send, serverPath, type Server } from './api'
import { place, go } from './router'
import { Action, Dialog, say } from './ui'

const FIELDS = [
    { name: 'url', title: 'Address', hint: 'http://10.0.0.5:8188', help: 'Where its ComfyUI answers.' },
    { name: 'name', title: 'Name', hint: 'gpu1', help: 'How it is called here; without, its host and port.' },
    { name: 'depth', title: 'Jobs at a time', hint: '1', help: 'How many it is given at once, the running one included.' },
    { name: 'tags', title: 'Tags', hint: 'big, fast', help: 'Words of your own, parted by commas.' },
] as const
type Field = (typeof FIELDS)[number]['name']
type Faults = Partial<Record<Field | 'all', string>>

/** The gateway names the field first in what it says is wrong. */
function faultsOf(e: Error): Faults {
    if (e instanceof ApiError && e.status === 409) return { [/\burl\b/.test(e.message) ? 'url' : 'name']: e.message }
    const field = FIELDS.find((f) => new RegExp(`^${f.name}\\b`).test(e.message))
    return { [field?.name ?? 'all']: e.message }
}

function faultsIn(v: Record<Field, string>): Faults {
    const faults: Faults = {}
    if (!/^https?:\/\/[^/\s]/.test(v.url.trim())) faults.url = 'An address such as http://10.0.0.5:8188'
    if (v.depth.trim() !== '' && !/^[1-9]\d?$/.test(v.depth.trim())) faults.depth = 'A whole number from 1 to 64'
    return faults
}

export function AddServer({ onDone, onClose }: { onDone: () => void; onClose: () => void }) {
    const [values, setValues] = useState<Record<Field, string>>({ url: '', name: '', depth: '', tags: '' })
    const [faults, setFaults] = useState<Faults>({})
    const [busy, setBusy] = useState(false)

    const show = (found: Faults) => {
        const first = FIELDS.find((f) => found[f.name])
        setFaults(found)
        if (first) document.getElementById(`add-${first.name}`)?.focus()
    }
    const add = async () => {
        const found = faultsIn(values)
        if (Object.keys(found).length) {
            show(found)
            return
        }
        const tags = values.tags.split(',').map((t) => t.trim()).filter(Boolean)
        setBusy(true)
        try {
            const s = await send<Server>('POST', '/mux/v1/servers', {
                url: values.url.trim(),
                ...(values.name.trim() && { name: values.name.trim() }),
                ...(values.depth.trim() && { depth: Number(values.depth) }),
                ...(tags.length && { tags }),
            })
            say(`${s.name} is added; it gets jobs as soon as it answers.`)
            onDone()
            onClose()
        } catch (e) {
            setBusy(false)
            show(faultsOf(e as Error))
        }
    }
    return (
        <Dialog title="Add a server" onClose={onClose}>
            <form
                class="form"
                noValidate
                onSubmit={(e) => {
                    e.preventDefault()
                    void add()
                }}
            >
                {FIELDS.map((f) => (
                    <div class="field" key={f.name}>
                        <label for={`add-${f.name}`}>{f.title}</label>
                        <input
                            id={`add-${f.name}`}
                            type="text"
                            inputMode={f.name === 'url' ? 'url' : 'text'}
                            value={values[f.name]}
                            placeholder={f.hint}
                            required={f.name === 'url'}
                            autofocus={f.name === 'url'}
                            spellcheck={false}
                            autocomplete="off"
                            aria-invalid={faults[f.name] !== undefined}
                            aria-describedby={`add-${f.name}-help`}
                            onInput={(e) => setValues({ ...values, [f.name]: e.currentTarget.value })}
                        />
                        <p id={`add-${f.name}-help`} class={faults[f.name] ? 'field-fault' : 'field-help'}>
                            {faults[f.name] ?? f.help}
                        </p>
                    </div>
                ))}
                {faults.all && (
                    <p class="trouble" role="alert">
                        {faults.all}
                    </p>
                )}
                <div class="buttons">
                    <button type="submit" class="is-main" disabled={busy}>
                        Add it
                    </button>
                    <button type="button" onClick={onClose}>
                        Leave it
                    </button>
                </div>
            </form>
        </Dialog>
    )
}

/** Asks; and asks once more if jobs run there. */
export function RemoveServer({ name, onDone, onClose }: { name: string; onDone: () => void; onClose: () => void }) {
    const [works, setWorks] = useState(false)
    const remove = async (force: boolean) => {
        try {
            await send('DELETE', `${serverPath(name)}${force ? '?force=1' : ''}`)
        } catch (e) {
            if (!force && e instanceof ApiError && e.status === 409) {
                setWorks(true)
                return
            }
            onClose()
            throw e
        }
        onClose()
        onDone()
        if (place.peek().id === name) go('servers')
        return `${name} is removed.`
    }
    return (
        <Dialog title={works ? `Jobs run on ${name}` : `Remove ${name}?`} onClose={onClose}>
            <p>
                {works
                    ? 'It can be removed all the same: its jobs are taken off it, queued again, and run on another server.'
                    : 'It is taken out of the fleet. The jobs that it has done, and their files, stay here.'}
            </p>
            <div class="buttons">
                <button type="button" onClick={onClose}>
                    Leave it
                </button>
                <Action class="is-danger" run={() => remove(works)}>
                    {works ? 'Remove it and queue its jobs again' : 'Remove'}
                </Action>
            </div>
        </Dialog>
    )
}
