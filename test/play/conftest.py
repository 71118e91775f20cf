def pytest_terminal_summary(terminalreporter):
    table = getattr(terminalreporter.config, "matrix_table", None)
    if table:
        terminalreporter.section("fault matrix")
        terminalreporter.write_line(table)
