import type { SubmitOptions, Workflow } from '../client'
import { MuxError, check, isObject } from './error'
import { type Answer, ask, errorOf } from './http'
import { uuid } from './uuid'
import { backoff, pause } from './wait'

const PATIENCE = 20000

/** The request of a submit. The id is chosen here, so that the same request can be sent again after an answer that was lost: the
 *  gateway gives the first answer again, and the job runs once. */
export function requestOf(prompt: Workflow, id: string, options: SubmitOptions, me: { windowId: string; clientId: string }): RequestInit {
    const fits = /^[!-~]([ -~]*[!-~])?$/.test(me.windowId) // in a header
    const extra: Record<string, unknown> = fits ? { ...options.extraData } : { ...options.extraData, window_id: me.windowId }
    return {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...(fits ? { 'X-Comfymux-Window': me.windowId } : {}) },
        body: JSON.stringify({ prompt, client_id: me.clientId, prompt_id: id, extra_data: extra }),
    }
}

function refusal(answer: Answer | null, base: string, id: string): MuxError {
    if (answer) return errorOf(answer, id)
    return new MuxError('unreachable', `the gateway at ${base} cannot be reached, or its \`cors\` does not allow this page`, { promptId: id })
}

export async function submit(
    base: string,
    prompt: Workflow,
    options: SubmitOptions,
    me: { windowId: string; clientId: string },
    signal: AbortSignal,
): Promise<string> {
    const id = options.promptId ?? uuid()
    const request = requestOf(prompt, id, options, me)
    const until = Date.now() + (options.timeout ?? PATIENCE)
    for (let n = 0; ; n++) {
        const answer = await ask(`${base}prompt`, request, signal)
        if (answer?.status === 200 && isObject(answer.body) && answer.body.prompt_id === id) return id
        const wait = Math.max(answer?.retryAfter ?? 0, backoff(n))
        const again = answer === null || answer.status === 429 || answer.status >= 500
        if (!again || Date.now() + wait > until) throw refusal(answer, base, id)
        await pause(wait, signal)
        check(signal, id)
    }
}
