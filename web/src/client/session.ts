import type {
    ConnectOptions, Mux, MuxEvents, SubmitOptions, TaskResult, WaitOptions, WindowServerRow, WindowTask, Workflow,
} from '../client'
import { type Claim, claimWindow } from './claim'
import { MuxError, check } from './error'
import { type Feed, feedOf } from './feed'
import { Images } from './images'
import { submit } from './submit'
import { windowServers } from './table'
import { type Tasks, tasksOf } from './tasks'
import { isUuid } from './uuid'
import { anyOf } from './wait'
import { waitForResult } from './wait_result'

function baseOf(url: string | URL): string {
    const base = new URL(url, globalThis.location?.href)
    base.search = base.hash = ''
    if (!base.pathname.endsWith('/')) base.pathname += '/'
    return base.href
}

/** What connect() gives: the parts put together. Its functions may be handed on by themselves. */
export class Session implements Mux {
    readonly url: string
    readonly ready: Promise<void>
    private readonly claim: Claim | null
    private readonly given: { windowId: string; clientId: string | null }
    private readonly feed: Feed
    private readonly tasks: Tasks
    private readonly images: Images
    private readonly closing = new AbortController()
    private readonly release: () => void
    private readonly listening = new Set<() => void>()

    constructor(options: ConnectOptions & { url: string | URL }) {
        this.url = baseOf(options.url)
        this.given = { windowId: options.windowId ?? '', clientId: options.clientId ?? null }
        this.claim = this.given.windowId === '' ? claimWindow() : null
        this.feed = feedOf(this.url)
        const mine = tasksOf(this.url, this.given.windowId, () => this.windowId)
        this.tasks = mine.tasks
        this.release = mine.release
        this.images = new Images(this.url, this.tasks, (id) => this.waitForResult(id), this.closing.signal)
        this.ready = this.claim?.ready ?? Promise.resolve()
        const moved = () => this.tasks.moved()
        this.claim?.moved.add(moved)
        this.closing.signal.addEventListener('abort', () => this.claim?.moved.delete(moved))
        Object.assign(globalThis, { debugMultiWindowServers: this.debugMultiWindowServers })
    }

    get windowId(): string {
        return this.claim?.id ?? this.given.windowId
    }

    get clientId(): string {
        return this.given.clientId ?? this.windowId
    }

    readonly submit = async (prompt: Workflow, options: SubmitOptions = {}): Promise<string> => {
        await this.ready
        const signal = this.until(options.signal)
        const release = this.feed.want()
        const heard = this.feed.isUp // then everything of the job is
        try {
            const id = await submit(this.url, prompt, options, { windowId: this.windowId, clientId: this.clientId }, signal)
            this.tasks.register(id, {}, this.clientId, heard)
            return id
        } finally {
            release()
        }
    }

    readonly on = <K extends keyof MuxEvents>(event: K, fn: (e: MuxEvents[K]) => void): (() => void) => {
        check(this.closing.signal)
        const end = this.tasks.on(event, fn)
        this.listening.add(end)
        return () => {
            this.listening.delete(end)
            end()
        }
    }

    readonly registerWindowTask = (promptId: string, task: Record<string, unknown> = {}): WindowTask => {
        if (!isUuid(promptId)) throw new MuxError('bad_request', 'a prompt id is a UUID in lower case')
        return this.tasks.register(promptId, task, this.clientId, false)
    }

    readonly getWindowTask = (promptId: string): WindowTask | null => this.tasks.get(promptId)?.task ?? null

    readonly getTaskBoundServer = (promptId: string): string | null => this.tasks.get(promptId)?.task.executionServer ?? null

    readonly getTaskBoundImageUrl = (promptId: string, taskResult?: unknown): Promise<string> => this.images.ofTask(promptId, taskResult)

    readonly getGeneratedImageUrl = (taskResult: unknown): Promise<string> => this.images.of(taskResult)

    readonly waitForResult = async (promptId: string, options: WaitOptions = {}): Promise<TaskResult> => {
        const signal = this.until(options.signal, options.timeout)
        const release = this.feed.want()
        try {
            const result = await waitForResult(this.url, promptId, this.feed, signal)
            await this.tasks.settle(promptId, signal)
            return result
        } catch (e) {
            if (e instanceof MuxError && e.status !== null) await this.tasks.settle(promptId, signal)
            throw e
        } finally {
            release()
        }
    }

    readonly debugMultiWindowServers = async (): Promise<WindowServerRow[]> => {
        const rows = await windowServers(this.url, this.windowId, this.tasks, this.closing.signal)
        console.table(rows)
        return rows
    }

    readonly close = (): void => {
        if (this.closing.signal.aborted) return
        this.closing.abort(new MuxError('closed', 'this connection was closed'))
        for (const end of this.listening) end()
        this.release()
    }

    private until(signal?: AbortSignal, timeout?: number): AbortSignal {
        check(this.closing.signal)
        return anyOf([this.closing.signal, signal], timeout)
    }
}
