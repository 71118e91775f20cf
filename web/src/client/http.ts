import { MuxError, check, isObject } from './error'
import { retryAfter } from './wait'

/** What the gateway answered; body undefined: it is not JSON, so somebody else may have answered in its place. */
export interface Answer {
    status: number
    body: unknown
    retryAfter: number | null
}

/** What takes longer is given up, and asked for again, so that a connection that has died silently holds nothing up. */
const PATIENCE = { GET: 20000, POST: 60000 }

/** Asks; null: nobody answered (and the caller has not stopped it, which throws). */
export async function ask(url: string, init: RequestInit = {}, signal?: AbortSignal): Promise<Answer | null> {
    check(signal)
    const stop = new AbortController()
    const pass = () => stop.abort()
    const timer = setTimeout(pass, PATIENCE[init.method === 'POST' ? 'POST' : 'GET'])
    signal?.addEventListener('abort', pass)
    try {
        const answer = await fetch(url, { cache: 'no-store', ...init, signal: stop.signal })
        const text = await answer.text()
        let body: unknown
        try {
            body = JSON.parse(text)
        } catch {
            body = undefined
        }
        return { status: answer.status, body, retryAfter: retryAfter(answer.headers.get('Retry-After')) }
    } catch {
        check(signal)
        return null
    } finally {
        clearTimeout(timer)
        signal?.removeEventListener('abort', pass)
    }
}

/** The code of an error of the gateway's routes, or null. */
export function codeOf(body: unknown): string | null {
    const error = isObject(body) ? body.error : undefined
    if (!isObject(error)) return null
    return typeof error.code === 'string' ? error.code : typeof error.type === 'string' ? error.type : null
}

export function errorOf(answer: Answer, promptId: string | null): MuxError {
    const body = isObject(answer.body) ? answer.body : {}
    const error = isObject(body.error) ? body.error : {}
    const text = [error.message, error.details].filter((t) => typeof t === 'string' && t !== '').join(': ')
    return new MuxError(codeOf(answer.body) ?? 'bad_answer', text || `the gateway answered with status ${answer.status}`, {
        status: answer.status,
        promptId,
        detail: error.detail ?? (typeof error.type === 'string' ? error : null),
        nodeErrors: isObject(body.node_errors) ? body.node_errors : {},
        body: answer.body,
    })
}
