import { MuxError, isObject } from './error'
import { type Answer, codeOf, errorOf } from './http'

/** What an answer of GET /result/{id} means to one who waits. strange: somebody else may have answered. */
export type Verdict =
    | { is: 'done'; body: Record<string, unknown> }
    | { is: 'failed'; error: MuxError }
    | { is: 'waiting' }
    | { is: 'away'; ms: number }
    | { is: 'strange'; error: MuxError }

/** null: nobody answered. Pure. */
export function verdict(answer: Answer | null, promptId: string): Verdict {
    if (answer === null) return { is: 'away', ms: 0 }
    const { status, body } = answer
    const code = codeOf(body)
    const ours = isObject(body) && body.id === promptId
    if (status === 200 && ours && body.status === 'completed' && typeof body.image_url === 'string') return { is: 'done', body }
    if (status === 202 && ours) return { is: 'waiting' }
    if (ours && code !== null) return { is: 'failed', error: failure(answer, promptId) }
    if (status === 404 && code === 'not_found') return { is: 'failed', error: errorOf(answer, promptId) }
    if (status >= 500 || status === 429) return { is: 'away', ms: answer.retryAfter ?? 0 }
    return { is: 'strange', error: errorOf(answer, promptId) }
}

/** The body of /result tells of the job: its message is the sentence for a person, its error's the cause. */
function failure(answer: Answer, promptId: string): MuxError {
    const e = errorOf(answer, promptId)
    const said = isObject(answer.body) && typeof answer.body.message === 'string' ? answer.body.message : ''
    return said === '' || e.message.includes(said) ? e : new MuxError(e.code, `${said} (${e.message})`, { ...e, cause: undefined })
}
