"""The broker side of the service: one narrow interface (`transport`) and the two ways to speak it.

`codec` speaks MQTT 5 and carries the telemetry, over a `link` whose bytes are `packets`; `paho` speaks MQTT 3.1.1 for
brokers that know no better; `subscriber` is what they do alike.
"""
