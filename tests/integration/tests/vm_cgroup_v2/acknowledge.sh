start_daemon --dev
check image_load coracle image load --quiet --input /payload/responder.tar || give_up /run/daemon.log
# The power goes as soon as this is on the console.
check acknowledged coracle service create --detach --name kept --replicas 2 responder:1
# Not to the end by itself.
sleep 3600
