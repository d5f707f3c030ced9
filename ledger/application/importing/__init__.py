"""Import files of usage: lines become commands, commands are submitted, answers are counted.

    lines        bytes to numbered lines, in constant memory
    cloudevents  lines to commands: CloudEvents
    responses    lines to commands: provider responses and their envelopes
    csvrecords   lines to CSV records (RFC 4180)
    csvmapping   records to commands, by a mapping of columns
    cells        text of one cell to number, time or truth value
    run          submits chunks with a few in flight, counts the answers

docs/spec/import.md has the rules.
"""
