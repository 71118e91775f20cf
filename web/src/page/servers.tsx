export function Servers() {
    return <div class="page" />
}
export function ServerPage(_p: { name: string }) {
    return <div class="page" />
}
