// A choice from what the servers list: a menu, or a search where there is much to choose from.
import { useState } from 'preact/hooks'
import type { Field } from './run_state'

const LONG = 40 // choices beyond this are looked for by typing

/** What every control of the form is given. */
export interface Control {
    id: string
    field: Field
    described: string | undefined
    wrong: boolean
}

export function ChoiceControl({ c }: { c: Control }) {
    const { choices } = c.field.input
    const value = c.field.value
    if (choices.length > LONG) return <SearchedChoice c={c} />
    return (
        <select
            id={c.id}
            value={value}
            aria-invalid={c.wrong}
            aria-describedby={c.described}
            onChange={(e) => c.field.set(e.currentTarget.value)}
        >
            {!choices.some((o) => o.text === value) && <option value={value}>{value}</option>}
            {choices.map((o) => (
                <option key={o.text} value={o.text}>
                    {o.text}
                </option>
            ))}
        </select>
    )
}

/** All are offered when it is entered empty: a browser lists only what contains the text that stands there. */
function SearchedChoice({ c }: { c: Control }) {
    const [typed, setTyped] = useState<string | null>(null)
    const { choices } = c.field.input
    return (
        <>
            <input
                id={c.id}
                type="search"
                list={`${c.id}-all`}
                value={typed ?? c.field.value}
                placeholder={c.field.value || `search ${choices.length}`}
                autocomplete="off"
                spellcheck={false}
                aria-invalid={c.wrong}
                aria-describedby={c.described}
                onFocus={() => setTyped('')}
                onInput={(e) => {
                    setTyped(e.currentTarget.value)
                    if (choices.some((o) => o.text === e.currentTarget.value)) c.field.set(e.currentTarget.value)
                }}
                onBlur={() => {
                    if (typed) c.field.set(typed)
                    setTyped(null)
                }}
            />
            <datalist id={`${c.id}-all`}>
                {choices.map((o) => (
                    <option key={o.text} value={o.text} />
                ))}
            </datalist>
        </>
    )
}
