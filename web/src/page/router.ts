// Where in the page we are: what stands behind "#" in the address, "#/jobs/<id>?state=failed".
import { computed, signal } from '@preact/signals'

const hash = signal(location.hash)

window.addEventListener('hashchange', () => {
    hash.value = location.hash
})

export interface Place {
    view: string
    id: string
    query: URLSearchParams
}

export const place = computed<Place>(() => {
    const [path = '', query = ''] = hash.value.replace(/^#\/?/, '').split('?', 2)
    const [view = '', ...rest] = path.split('/')
    let id = rest.join('/')
    try {
        id = decodeURIComponent(id)
    } catch {
        // as it stands
    }
    return { view: view || 'jobs', id, query: new URLSearchParams(query) }
})

export function href(view: string, id = '', query: Record<string, string> = {}): string {
    const q = new URLSearchParams(Object.entries(query).filter(([, v]) => v !== '')).toString()
    return `#/${view}${id ? `/${encodeURIComponent(id)}` : ''}${q ? `?${q}` : ''}`
}

export function go(view: string, id = '', query: Record<string, string> = {}): void {
    location.hash = href(view, id, query)
}

/** The same view with other filters; no new entry in the browser's history. */
export function refine(query: Record<string, string>): void {
    const { view, id } = place.peek()
    history.replaceState(null, '', href(view, id, query))
    hash.value = location.hash
}
