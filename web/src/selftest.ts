/**
 * Checks a gateway from a browser, by real jobs of several windows. They need no model, and take a moment each.
 *
 *     const { runAllTests } = await import('/mux/selftest.js')
 *     await runAllTests()
 */
import { connect, type Mux, type MuxError, type WindowTask, type Workflow } from './client.js'

export interface SelfTestOptions {
    /** The gateway. Default: where this module was loaded from. */
    url?: string
    /** Jobs of each window. Default: 3. */
    jobs?: number
    /** ms for each wait. Default: 60000. */
    timeout?: number
    /** Called when all jobs are done, before their images are looked at again: for a test that ends a server there. */
    between?: (servers: string[]) => unknown
}

export interface SelfTestRow {
    check: string
    passed: boolean
    detail: string
}

interface Job {
    mux: Mux
    id: string
    colour: number
}

const SIZE = 64

/** A picture of one colour. */
const picture = (colour: number): Workflow => ({
    '1': { class_type: 'EmptyImage', inputs: { width: SIZE, height: SIZE, batch_size: 1, color: colour } },
    '2': { class_type: 'SaveImage', inputs: { images: ['1', 0], filename_prefix: 'comfymux-selftest' } },
})

/** Far enough from each other that rounding on a server does not make one of another. */
function colours(count: number): number[] {
    const steps = new Set<number>()
    while (steps.size < count) steps.add(Math.floor(Math.random() * 4096))
    return [...steps].map((s) => ((s >> 8) * 16 + 8) * 0x10000 + (((s >> 4) & 15) * 16 + 8) * 0x100 + ((s & 15) * 16 + 8))
}

function need(right: unknown, otherwise: string): asserts right {
    if (!right) throw new Error(otherwise)
}

async function json(url: string): Promise<{ status: number; body: any }> {
    const answer = await fetch(url, { cache: 'no-store' })
    return { status: answer.status, body: await answer.json() }
}

/** Loads and decodes the picture there. */
async function colourAt(url: string): Promise<number> {
    const answer = await fetch(url, { cache: 'no-store' })
    need(answer.ok, `${url} answers ${answer.status}`)
    const bytes = await answer.blob()
    need(bytes.size > 0, `${url} is empty`)
    const image = await createImageBitmap(bytes)
    need(image.width > 0 && image.height > 0, `${url} has no pixels`)
    const canvas = document.createElement('canvas')
    canvas.width = image.width
    canvas.height = image.height
    const context = canvas.getContext('2d')!
    context.drawImage(image, 0, 0)
    const [r = 0, g = 0, b = 0] = context.getImageData(image.width >> 1, image.height >> 1, 1, 1).data
    return (r << 16) | (g << 8) | b
}

async function shows(url: string, colour: number): Promise<void> {
    const got = await colourAt(url)
    const far = [16, 8, 0].some((bits) => Math.abs(((got >> bits) & 255) - ((colour >> bits) & 255)) > 4)
    need(!far, `${url} is another picture: #${got.toString(16).padStart(6, '0')} instead of #${colour.toString(16).padStart(6, '0')}`)
}

/** As an old page does it: asks again and again, and takes the image at the first "completed". */
async function pollOnce(job: Job, until: number): Promise<string> {
    for (;;) {
        const { body } = await json(`${job.mux.url}status/${job.id}`)
        if (body.status === 'completed') {
            const url = await job.mux.getGeneratedImageUrl(body)
            await shows(url, job.colour)
            return url
        }
        need(['queued', 'processing', 'fetching_image'].includes(body.status), `${job.id} is ${body.status}: ${body.message}`)
        need(Date.now() < until, `${job.id} is still ${body.status}`)
        await new Promise((resolve) => setTimeout(resolve, 50))
    }
}

class SelfTest {
    readonly rows: SelfTestRow[] = []
    private readonly windows: Mux[]
    private readonly heard = new Map<Mux, Set<string>>()
    private jobs: Job[] = []

    constructor(private readonly options: SelfTestOptions) {
        const url = options.url === undefined ? {} : { url: options.url }
        const other = `selftest-${Math.random().toString(36).slice(2)}`
        this.windows = [connect(url), connect({ ...url, windowId: other })]
    }

    private get timeout(): number {
        return this.options.timeout ?? 60000
    }

    private async check(check: string, run: () => Promise<string>): Promise<void> {
        try {
            this.rows.push({ check, passed: true, detail: await run() })
        } catch (e) {
            const code = (e as Partial<MuxError>).code
            this.rows.push({ check, passed: false, detail: `${code ? `${code}: ` : ''}${e instanceof Error ? e.message : String(e)}` })
        }
    }

    private each(run: (job: Job) => Promise<unknown>): Promise<unknown[]> {
        need(this.jobs.length > 0, 'there are no jobs: nothing was submitted')
        return Promise.all(this.jobs.map(run))
    }

    async run(): Promise<SelfTestRow[]> {
        await this.check('windows differ', () => this.differ())
        await this.check('jobs of two windows are accepted', () => this.submit())
        await this.check('completed means that the image is there', () => this.completed())
        await this.check('waitForResult gives the images', () => this.results())
        await this.check('a task is bound to one server', () => this.bound())
        await this.check('windows do not mix', () => this.isolated())
        await this.check('getTaskBoundImageUrl is the right image', () => this.boundUrls())
        await this.check('getGeneratedImageUrl is the right image', () => this.oldUrls())
        await this.check('debugMultiWindowServers shows it', () => this.table())
        await this.check('submitted twice, run once', () => this.twice())
        await this.check('what is wrong is named', () => this.named())
        await this.check('images stay when a server has gone', () => this.after())
        for (const w of this.windows) w.close()
        console.table(this.rows)
        return this.rows
    }

    private async differ(): Promise<string> {
        await Promise.all(this.windows.map((w) => w.ready))
        const ids = this.windows.map((w) => w.windowId)
        need(new Set(ids).size === ids.length && ids.every((id) => id !== ''), `window ids: ${ids.join(', ')}`)
        return ids.join(', ')
    }

    private async submit(): Promise<string> {
        const count = this.options.jobs ?? 3
        const all = colours(count * this.windows.length)
        for (const w of this.windows) {
            const ids = new Set<string>()
            this.heard.set(w, ids)
            for (const event of ['state', 'progress', 'output', 'end'] as const) w.on(event, (e) => ids.add(e.promptId))
        }
        await Promise.all(all.map(async (colour, i) => {
            const mux = this.windows[i % this.windows.length]!
            this.jobs.push({ mux, id: await mux.submit(picture(colour)), colour })
        }))
        return `${this.jobs.length} jobs`
    }

    private async completed(): Promise<string> {
        const until = Date.now() + this.timeout
        await this.each((job) => pollOnce(job, until))
        return `${this.jobs.length} images decoded at the first "completed"`
    }

    private async results(): Promise<string> {
        await this.each(async (job) => {
            const result = await job.mux.waitForResult(job.id, { timeout: this.timeout })
            need(result.image_url !== '' && result.image_urls.length > 0, `${job.id} has no image`)
            for (const url of result.image_urls) await shows(new URL(url.slice(1), job.mux.url).href, job.colour)
        })
        return `${this.jobs.length} results`
    }

    private task(job: Job): WindowTask {
        const task = job.mux.getWindowTask(job.id)
        need(task !== null, `${job.id} is not registered`)
        return task
    }

    private async bound(): Promise<string> {
        const used = new Map<string, number>()
        await this.each(async (job) => {
            const task = this.task(job)
            const { body } = await json(`${job.mux.url}mux/v1/jobs/${job.id}`)
            const server: unknown = job.mux.getTaskBoundServer(job.id)
            need(server !== null && server === body.server?.url, `${job.id} is bound to ${server} here and to ${body.server?.url} at the gateway`)
            need(task.executionServer === server && task.windowId === job.mux.windowId && task.clientId === job.mux.clientId
                && task.registeredAt > 0, `${job.id} is registered as ${JSON.stringify(task)}`)
            need(body.window_id === job.mux.windowId, `${job.id} belongs to window ${body.window_id} at the gateway`)
            used.set(task.serverName!, (used.get(task.serverName!) ?? 0) + 1)
        })
        return [...used].map(([name, n]) => `${name}: ${n}`).join(', ')
    }

    private async isolated(): Promise<string> {
        await this.each(async (job) => {
            const others = this.windows.filter((w) => w !== job.mux)
            need(others.every((w) => w.getWindowTask(job.id) === null), `${job.id} is registered in another window`)
            need(others.every((w) => !this.heard.get(w)!.has(job.id)), `events of ${job.id} were heard in another window`)
        })
        for (const w of this.windows) {
            const { body } = await json(`${w.url}mux/v1/jobs?limit=1000&window_id=${encodeURIComponent(w.windowId)}`)
            const ids = new Set<string>(body.jobs.map((j: { id: string }) => j.id))
            for (const job of this.jobs) need((job.mux === w) === ids.has(job.id), `${job.id} is listed under the wrong window`)
        }
        return `${this.windows.length} windows`
    }

    private async boundUrls(): Promise<string> {
        await this.each(async (job) => {
            const other = this.jobs.find((j) => j.id !== job.id)!
            const { body: mixed } = await json(`${other.mux.url}result/${other.id}`)
            await shows(await job.mux.getTaskBoundImageUrl(job.id), job.colour)
            await shows(await job.mux.getTaskBoundImageUrl(job.id, mixed), job.colour) // somebody else's result
        })
        return 'also when it is handed the result of another task'
    }

    private async oldUrls(): Promise<string> {
        await this.each(async (job) => {
            const { body: result } = await json(`${job.mux.url}result/${job.id}`)
            const { body: history } = await json(`${job.mux.url}history/${job.id}`)
            const image = history[job.id].outputs['2'].images[0]
            for (const shape of [result, job.id, { prompt_id: job.id }, history, history[job.id], image, { images: [image] }])
                await shows(await job.mux.getGeneratedImageUrl(shape), job.colour)
        })
        return 'by result, id, history and image'
    }

    private async table(): Promise<string> {
        const rows = await this.windows[0]!.debugMultiWindowServers()
        await this.each(async (job) => {
            const row = rows.find((r) => r.promptId === job.id)
            need(row !== undefined, `${job.id} is not in the table`)
            need(row.window === job.mux.windowId && row.executionServer === this.task(job).executionServer, `the table says ${JSON.stringify(row)}`)
        })
        return `${rows.length} rows`
    }

    private async twice(): Promise<string> {
        const w = this.windows[0]!
        const job = this.jobs.find((j) => j.mux === w)!
        need((await w.submit(picture(job.colour), { promptId: job.id })) === job.id, 'another id was given')
        const { body } = await json(`${w.url}mux/v1/jobs?limit=1000&window_id=${encodeURIComponent(w.windowId)}`)
        need(body.jobs.filter((j: { id: string }) => j.id === job.id).length === 1, `${job.id} is there twice`)
        return job.id
    }

    private async named(): Promise<string> {
        const w = this.windows[0]!
        const code = (e: unknown) => (e as Partial<MuxError>).code
        const refused = await w.submit({ '1': { class_type: 'ComfymuxNoSuchNode', inputs: {} } }).catch(code)
        need(refused === 'missing_node_type', `a workflow with an unknown node: ${refused}`)
        const unknown = await w.waitForResult('00000000-0000-4000-8000-000000000000').catch(code)
        need(unknown === 'not_found', `an unknown id: ${String(unknown)}`)
        return `${refused}, ${unknown}`
    }

    /** What has run on servers that are down, now or by options.between, is here still. */
    private async after(): Promise<string> {
        const base = this.windows[0]!.url
        await this.options.between?.([...new Set(this.jobs.map((j) => this.task(j).serverName!))])
        await this.each(async (job) => shows(await job.mux.getTaskBoundImageUrl(job.id), job.colour))
        const { body } = await json(`${base}mux/v1/servers`)
        const gone: string[] = body.servers.filter((s: { state: string }) => ['down', 'suspect'].includes(s.state)).map((s: { name: string }) => s.name)
        let images = 0
        for (const name of gone) {
            const { body: old } = await json(`${base}mux/v1/jobs?state=succeeded&limit=5&server=${encodeURIComponent(name)}`)
            for (const { id } of old.jobs as { id: string }[]) {
                const { status, body: result } = await json(`${base}result/${id}`)
                if (status !== 200) continue // made no image, or it is no longer kept
                await colourAt(new URL(result.image_url.slice(1), base).href)
                images++
            }
        }
        return gone.length === 0 ? 'no server is down' : `${images} images of ${gone.join(', ')}`
    }
}

/** Runs all checks, prints them as a table and gives the same as rows. */
export async function runAllTests(options: SelfTestOptions = {}): Promise<SelfTestRow[]> {
    return new SelfTest(options).run()
}

Object.assign(globalThis, { runAllTests })
