import type { WindowServerRow } from '../client'
import { isObject } from './error'
import { ask } from './http'
import type { Tasks } from './tasks'

const list = (body: unknown, key: string): Record<string, unknown>[] =>
    isObject(body) && Array.isArray(body[key]) ? (body[key] as unknown[]).filter(isObject) : []

const text = (v: unknown): string | null => (typeof v === 'string' ? v : null)

/** Every window's tasks, as the gateway knows them; this window's, from memory, where it does not. */
export async function windowServers(base: string, here: string, tasks: Tasks, signal: AbortSignal): Promise<WindowServerRow[]> {
    const [windows, servers] = await Promise.all([ask(`${base}mux/v1/windows`, {}, signal), ask(`${base}mux/v1/servers`, {}, signal)])
    const urls = new Map(list(servers?.body, 'servers').map((s) => [text(s.name), text(s.url)]))
    const rows: WindowServerRow[] = []
    for (const w of list(windows?.body, 'windows'))
        for (const j of list(w, 'jobs')) {
            const promptId = text(j.id) ?? ''
            const own = tasks.get(promptId)?.task
            rows.push({
                window: text(w.window_id),
                here: w.window_id === here,
                promptId,
                state: text(j.state) ?? '',
                server: text(j.server),
                executionServer: urls.get(text(j.server)) ?? own?.executionServer ?? null,
                clientId: text(j.client_id),
                registeredAt: new Date(Number(j.registered_at)).toISOString(),
            })
        }
    const told = new Set(rows.map((r) => r.promptId))
    for (const { task } of tasks.all()) {
        if (told.has(task.promptId)) continue
        rows.push({
            window: task.windowId,
            here: true,
            promptId: task.promptId,
            state: task.state,
            server: task.serverName,
            executionServer: task.executionServer,
            clientId: task.clientId,
            registeredAt: new Date(task.registeredAt).toISOString(),
        })
    }
    return rows
}
