export function Run() {
    return <div class="page" />
}
