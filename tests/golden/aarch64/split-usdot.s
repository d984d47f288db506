ldr w0, [x1]
ldur w2, [x1, #3]
ldur w3, [x1, #6]
ldur w4, [x1, #9]
ldr w5, [x1, #12]
ldur w6, [x1, #15]
sub x7, x7, #1
add x8, x9, #64
add x1, x1, #4
dup v0.4s, w0
ldr q1, [x9]
usdot v2.4s, v2.4s, v0.4s, v1.4s
ldr q3, [x9, #16]
usdot v4.4s, v4.4s, v0.4s, v3.4s
ldr q5, [x9, #32]
usdot v6.4s, v6.4s, v0.4s, v5.4s
ldr q7, [x9, #48]
usdot v8.4s, v8.4s, v0.4s, v7.4s
dup v0.4s, w2
usdot v9.4s, v9.4s, v0.4s, v1.4s
usdot v10.4s, v10.4s, v0.4s, v3.4s
usdot v11.4s, v11.4s, v0.4s, v5.4s
usdot v12.4s, v12.4s, v0.4s, v7.4s
dup v0.4s, w3
usdot v13.4s, v13.4s, v0.4s, v1.4s
usdot v14.4s, v14.4s, v0.4s, v3.4s
usdot v15.4s, v15.4s, v0.4s, v5.4s
usdot v16.4s, v16.4s, v0.4s, v7.4s
dup v0.4s, w4
usdot v17.4s, v17.4s, v0.4s, v1.4s
usdot v18.4s, v18.4s, v0.4s, v3.4s
usdot v19.4s, v19.4s, v0.4s, v5.4s
usdot v20.4s, v20.4s, v0.4s, v7.4s
dup v0.4s, w5
usdot v21.4s, v21.4s, v0.4s, v1.4s
usdot v22.4s, v22.4s, v0.4s, v3.4s
usdot v23.4s, v23.4s, v0.4s, v5.4s
usdot v24.4s, v24.4s, v0.4s, v7.4s
dup v0.4s, w6
usdot v25.4s, v25.4s, v0.4s, v1.4s
usdot v26.4s, v26.4s, v0.4s, v3.4s
usdot v27.4s, v27.4s, v0.4s, v5.4s
usdot v28.4s, v28.4s, v0.4s, v7.4s
cbnz x7, label29 ; b label30
