/**
 * The JavaScript module of comfymux: one gateway in front of many ComfyUI servers, used from the windows of a page.
 *
 *     import { connect } from 'http://gateway:8280/mux/client.js'
 *
 *     const mux = connect()
 *     const id = await mux.submit(workflow)
 *     await mux.waitForResult(id)
 *     image.src = await mux.getTaskBoundImageUrl(id)
 */
import { Session } from './client/session'

/** The version of this module's interface. */
export const version = 1

export interface ConnectOptions {
    /** Where the gateway is. Default: where this module was loaded from. */
    url?: string | URL
    /** A name for this browser window, at most 256 bytes. Default: one of its own that outlasts a reload, and that no other
     *  window has. */
    windowId?: string
    /** What prompts are submitted under, for a page that listens at /ws by itself. Default: the window's id. */
    clientId?: string
}

/** A workflow in API format: nodes by their ids. */
export type Workflow = Record<string, unknown>

export interface SubmitOptions {
    /** Sent as extra_data: what is embedded into the pictures, keys of API nodes. */
    extraData?: Record<string, unknown>
    /** A UUID of the caller's, to submit under. Default: a random one. */
    promptId?: string
    /** How many ms to go on trying while the gateway cannot be reached or does not take jobs. Default: 20000. A prompt is never
     *  run twice for that. */
    timeout?: number
    signal?: AbortSignal
}

export interface WaitOptions {
    /** Give up after so many ms. Default: never. */
    timeout?: number
    signal?: AbortSignal
}

export type JobState = 'queued' | 'dispatching' | 'running' | 'collecting' | 'succeeded' | 'failed' | 'canceled' | 'expired'

/** A prompt of this window. What registerWindowTask() was given stands in it too. */
export interface WindowTask {
    promptId: string
    /** The URL of the server that it is bound to; null: it is still waiting for one. */
    executionServer: string | null
    /** The gateway's name for that server. */
    serverName: string | null
    windowId: string
    clientId: string
    /** ms since the epoch, by this browser's clock. */
    registeredAt: number
    state: JobState
    /** How often it was given to a server: 0 before the first. */
    attempt: number
    [more: string]: unknown
}

export interface JobOutput {
    n: number
    node_id: string
    kind: 'image' | 'video' | 'audio' | 'text' | 'file' | 'latent' | '3d' | 'json'
    filename: string
    subfolder: string
    type: string
    size: number
    mime: string
    blake3: string
    /** From the root of the gateway. */
    url: string
}

/** The body of /result/{id}. URLs begin at the root of the gateway. */
export interface TaskResult {
    id: string
    status: 'completed'
    progress: { value: number; max: number }
    message: string
    server: string | null
    image_url: string
    image_urls: string[]
    outputs: JobOutput[]
    error: null
}

export interface JobEvent {
    promptId: string
    /** ms since the epoch, by the gateway's clock. */
    at: number
    task: WindowTask
}
export interface StateEvent extends JobEvent {
    state: JobState
    server: string | null
    attempt: number
    /** Why an attempt, or the job, failed. */
    error: { code: string; message: string } | null
}
export interface ProgressEvent extends JobEvent {
    value: number
    max: number
    node: string | null
}
export interface OutputEvent extends JobEvent {
    output: JobOutput
    /** Absolute. */
    url: string
}
export interface MuxEvents {
    /** The job has come into another state. */
    state: StateEvent
    /** The node that runs has made progress. */
    progress: ProgressEvent
    /** One file of the job is stored, and can be had. */
    output: OutputEvent
    /** The job has ended, for good. */
    end: StateEvent
    /** The gateway no longer knew what this window had missed: how things stand is told anew. */
    reset: { at: number }
    /** The stream of events is there. It is kept only while there is something to wait for. */
    connected: { url: string }
    disconnected: { url: string }
}

/** What the promises reject with. */
export interface MuxError extends Error {
    /** Of the job (execution_error, no_image_output, canceled …) or of the request (not_found, missing_node_type …); `unreachable`,
     *  `timeout`, `aborted`, `closed`, `bad_answer` are this module's own. */
    readonly code: string
    /** The HTTP status; null: there was no answer. */
    readonly status: number | null
    readonly promptId: string | null
    /** What the server said, if it did. */
    readonly detail: unknown
    /** By node id, when a workflow was refused. */
    readonly nodeErrors: Record<string, unknown>
    /** The answer's body. */
    readonly body: unknown
}

/** One line of debugMultiWindowServers(). */
export interface WindowServerRow {
    window: string | null
    /** Is it this one? */
    here: boolean
    promptId: string
    state: string
    server: string | null
    executionServer: string | null
    clientId: string | null
    registeredAt: string
}

export interface Mux {
    /** The gateway, with a slash at the end. */
    readonly url: string
    /** Until `ready` it may change: a tab that was duplicated gets a new one. */
    readonly windowId: string
    readonly clientId: string
    /** This window's id is its own. submit() waits for it by itself. */
    readonly ready: Promise<void>

    /** Hands a workflow to the gateway and registers the task. Resolves to the prompt id once the gateway has stored it.
     *  Rejects with a MuxError; for a workflow that was refused it has `code`, `status` 400 and `nodeErrors`. */
    submit(prompt: Workflow, options?: SubmitOptions): Promise<string>

    /** Calls fn at each such event of this window's tasks. Gives a function that ends that. */
    on<K extends keyof MuxEvents>(event: K, fn: (e: MuxEvents[K]) => void): () => void

    /** Follows a prompt that was submitted by other means; what stands in `task` is kept with it. */
    registerWindowTask(promptId: string, task?: Record<string, unknown>): WindowTask
    getWindowTask(promptId: string): WindowTask | null
    /** The URL of the server that the task is bound to, from memory. null: none yet, or the task is unknown here. */
    getTaskBoundServer(promptId: string): string | null

    /** An absolute URL of the task's image: of the one that taskResult names, else of the first. Waits for it if need be. It shows
     *  that image whatever becomes of the server. */
    getTaskBoundImageUrl(promptId: string, taskResult?: unknown): Promise<string>
    /** The same for callers that have no prompt id at hand: a body of /status or /result, a history entry, an image
     *  {filename, subfolder, type}, an id or a URL. */
    getGeneratedImageUrl(taskResult: unknown): Promise<string>

    /** Resolves to the body of /result when the image is there, however long it takes, over restarts of the gateway and losses of
     *  the network. Rejects with a MuxError that has `code`. */
    waitForResult(promptId: string, options?: WaitOptions): Promise<TaskResult>

    /** Prints which window's task ran on which server, and gives the same as rows. */
    debugMultiWindowServers(): Promise<WindowServerRow[]>

    /** Ends waiting and listening. Tasks stay registered for the next connect(). */
    close(): void
}

export function connect(options: ConnectOptions = {}): Mux {
    return new Session({ ...options, url: options.url ?? new URL('..', import.meta.url) })
}
