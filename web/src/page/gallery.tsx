export function Gallery() {
    return <div class="page" />
}
