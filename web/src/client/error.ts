import type { MuxError as Shape } from '../client'

/** What every promise of this module rejects with. */
export class MuxError extends Error implements Shape {
    readonly code: string
    readonly status: number | null
    readonly promptId: string | null
    readonly detail: unknown
    readonly nodeErrors: Record<string, unknown>
    readonly body: unknown

    constructor(code: string, message: string, more: Partial<Omit<Shape, keyof Error | 'code'>> & { cause?: unknown } = {}) {
        super(message, 'cause' in more ? { cause: more.cause } : undefined)
        this.name = code === 'aborted' ? 'AbortError' : 'MuxError'
        this.code = code
        this.status = more.status ?? null
        this.promptId = more.promptId ?? null
        this.detail = more.detail ?? null
        this.nodeErrors = more.nodeErrors ?? {}
        this.body = more.body ?? null
    }
}

export const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v)

/** Throws what stopped the caller, if something did. */
export function check(signal: AbortSignal | undefined, promptId: string | null = null): void {
    if (!signal?.aborted) return
    const why: unknown = signal.reason
    if (why instanceof MuxError) throw why
    const late = why instanceof DOMException && why.name === 'TimeoutError'
    throw new MuxError(late ? 'timeout' : 'aborted', late ? 'it took too long' : 'the caller has stopped it', { promptId, cause: why })
}
