/*  URLs of a task's images: always the gateway's own, which stay the same whatever becomes of the server. */
import type { JobOutput, TaskResult } from '../client'
import { MuxError, isObject } from './error'
import { ask, errorOf } from './http'
import { type FileName, type Picked, fileOfView, isFile, pick } from './pick'
import type { Tasks } from './tasks'
import type { Known } from './task'

export class Images {
    constructor(
        private readonly base: string,
        private readonly tasks: Tasks,
        private readonly wait: (id: string) => Promise<TaskResult>,
        private readonly signal: AbortSignal,
    ) {}

    async of(result: unknown): Promise<string> {
        const p = pick(result)
        if (!p) throw new MuxError('bad_request', 'this names no image and no task')
        if (p.id !== null) return this.ofTask(p.id, result)
        if (p.url !== null) return this.ofUrl(p.url)
        return this.ofFile(p.file!, null)
    }

    async ofTask(id: string, result: unknown): Promise<string> {
        const p = result === undefined || result === null ? null : pick(result)
        // What names another task does not lead away from this one.
        if (p && (p.id === null || p.id === id)) {
            const found = await this.named(id, p)
            if (found !== null) return found
        }
        return this.tasks.absolute((await this.wait(id)).image_url)
    }

    /** What p names, if that is a file of this task. */
    private async named(id: string, p: Picked): Promise<string | null> {
        if (p.url !== null) {
            const url = this.parse(p.url)
            const file = url && fileOfView(url)
            if (file) return this.fileOf(id, file)
            return url && this.isJobs(url, id) ? url.href : null
        }
        return p.file ? this.fileOf(id, p.file) : null
    }

    /** A page that is given a URL of a server may be given one of the wrong server: what it names is looked for here. */
    private async ofUrl(text: string): Promise<string> {
        const url = this.parse(text)
        if (!url) throw new MuxError('bad_request', `${text} is no URL`)
        const file = fileOfView(url)
        if (!file || url.href.startsWith(this.base)) return url.href
        return this.ofFile(file, url.origin)
    }

    /** A name alone is not enough: every server has a ComfyUI_00001_.png. It counts if one task of this window has it;
     *  otherwise the gateway says whether it is one file or several (404). */
    private async ofFile(file: FileName, server: string | null): Promise<string> {
        const on = (k: Known) => server === null || (k.task.executionServer !== null && new URL(k.task.executionServer).origin === server)
        const found = this.tasks.all().flatMap((k) => (on(k) ? k.outputs.filter((o) => isFile(o, k.task.promptId, file)) : []))
        if (found.length === 1) return this.tasks.absolute(found[0]!.url)
        const view = new URL('view', this.base)
        for (const [key, value] of Object.entries(file)) view.searchParams.set(key, value)
        return view.href
    }

    private async fileOf(id: string, file: FileName): Promise<string> {
        let o = this.tasks.get(id)?.outputs.find((o) => isFile(o, id, file)) ?? (await this.outputs(id)).find((o) => isFile(o, id, file))
        if (!o) {
            const ended = await this.wait(id)
            o = ended.outputs.find((o) => isFile(o, id, file))
        }
        if (!o) throw new MuxError('not_found', `${file.filename} is no output of this task`, { promptId: id })
        return this.tasks.absolute(o.url)
    }

    private async outputs(id: string): Promise<JobOutput[]> {
        const answer = await ask(`${this.base}mux/v1/jobs/${id}`, {}, this.signal)
        if (answer?.status === 404) throw errorOf(answer, id)
        return answer && isObject(answer.body) && Array.isArray(answer.body.outputs) ? (answer.body.outputs as JobOutput[]) : []
    }

    /** A place of the gateway, or what stands by itself. */
    private parse(url: string): URL | null {
        try {
            return /^[a-z][a-z0-9+.-]*:/i.test(url) || url.startsWith('//') ? new URL(url, this.base) : new URL(this.tasks.absolute(url))
        } catch {
            return null
        }
    }

    private isJobs(url: URL, id: string): boolean {
        return url.href.startsWith(`${this.base}mux/v1/jobs/${id}/`) || url.protocol === 'data:' || url.protocol === 'blob:'
    }
}
